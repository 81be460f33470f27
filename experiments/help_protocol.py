"""Which devices and networks of NAS-Bench-201 HELP's protocol knows, and which it tests."""

SOURCES = (
    *("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r"),
    *("samsung_a50", "pixel3", "essential_ph_1", "samsung_s7"),
)
TARGETS = ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss")
KNOWN, TESTED = 900, 1_000
"""Networks 0 to 899 may be measured, the next 1,000 are tested."""
