import base64
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.errors import FileError
from bayestl.report.content import Change, Improvement, Report
from bayestl.report.page import write

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(make_report, tmp_path_factory):
    return write(make_report(), tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def html(folder) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_the_page_loads_nothing_and_runs_nothing(html, page):
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]*", "", html))
    assert not page.all("script")
    assert not page.all("link")
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert all(
        str(image["src"]).startswith("data:image/svg+xml;base64,") for image in page.all("img")
    )


def test_the_security_policy_allows_just_this_style_sheet(html, page):
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert not any("style" in attributes for _, attributes in page.elements)


def test_every_figure_is_there_in_both_themes_with_words_and_as_png(folder, page):
    images = page.all("img")
    assert len(images) == 10
    assert [image["class"] for image in images] == ["on-light", "on-dark"] * 5
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    names = {str(figure["id"]) for figure in page.all("figure")}
    assert names == {path.stem for path in folder.glob("*.png")}
    assert {path.read_bytes()[:4] for path in folder.glob("*.png")} == {b"\x89PNG"}


def test_the_figures_are_well_formed_and_point_nowhere(page):
    for image in page.all("img"):
        svg = base64.b64decode(str(image["src"]).partition(",")[2]).decode()
        root = ElementTree.fromstring(svg)
        addresses = [
            value for e in root.iter() for key, value in e.attrib.items() if key.endswith("href")
        ]
        assert all(address.startswith("#") for address in addresses)


def test_tables_have_captions_and_headings(page):
    assert len(page.all("table")) == len(page.all("caption"))
    assert all("scope" in cell for cell in page.all("th"))
    assert len(page.all("h1")) == 1


def test_ids_are_unique_and_labels_resolve(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_the_numbers_are_on_the_page(page):
    text = " ".join(page.text.split())
    assert "× 1.62 better than the default" in text
    assert "gain × 1.50 to 1.80" in text
    assert "1 of 3 options changed" in text
    assert "90 %" in text
    assert "The governor is powersave." in text
    assert "Surely different: threads. " in text
    assert "0.40 to 0.60" in text


def test_changes_are_listed_or_it_is_said_why_not(make_report, tmp_path):
    def text(change: Change) -> str:
        return " ".join(Page(write(make_report(change=change), tmp_path).read_text()).text.split())

    effects = make_report().change.effects
    unsure = text(Change("a", "b", effects.assign(probability=0.5)))
    assert "No option or pair of options is known to act differently." in unsure
    assert "What changed from a to b" in unsure
    many = pd.concat([effects] * 5, ignore_index=True).assign(
        option=[f"o{i}" for i in range(15)], other="", probability=0.95
    )
    assert "Surely different: o0, o1, o2, o3, o4, o5, o6, o7 and 7 more." in text(
        Change("a", "b", many)
    )
    assert "It cannot." in text(Change("a", "b", note="It cannot."))


def test_equal_content_gives_equal_bytes(make_report, folder, tmp_path):
    write(make_report(), tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in tmp_path.iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_markup_in_the_content_is_shown_as_text(make_report, tmp_path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    everywhere = make_report(
        title=evil,
        lede=evil,
        facts=[(evil, evil)],
        metric=Metric(evil, evil),
        improvement=Improvement({evil: evil}, {evil: "b"}, 2.0, 1.0),
        methods=pd.DataFrame({"method": [evil], "mape": [1.0]}),
        learning=pd.DataFrame({"method": [evil], "n_target": [1], "mape": [1.0], evil: [1]}),
        predictions=make_report().predictions.replace("TransferGP", evil),
        effects=make_report().effects.assign(option=evil, best=evil),
        correlation=pd.DataFrame([[1.0, 0.5], [0.5, 1.0]], [evil, "b"], [evil, "b"]),
        change=Change(evil, evil, make_report().change.effects.assign(option=evil, other=evil)),
        failures=pd.DataFrame({"status": [evil], "count": [1], "example": [evil]}),
        warnings=[evil],
        provenance={evil: evil},
    )
    page = Page(write(everywhere, tmp_path).read_text())
    assert not page.all("script")
    assert len(page.all("img")) == 10
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    assert page.text.count(evil) > 10


def test_what_html_does_not_allow_is_replaced(make_report, tmp_path):
    printed = "\x1b[31mno memory\x00\ttold"  # as a program may colour what it prints
    failures = pd.DataFrame({"status": ["crash"], "count": [1], "example": [printed]})
    text = write(make_report(failures=failures, warnings=["a\udcff"]), tmp_path).read_text()
    assert "\ufffd[31mno memory\ufffd\ttold" in text
    assert "<li>a\ufffd</li>" in text
    assert not set(text) & {"\x1b", "\x00"}


def test_a_report_of_a_title_alone_is_a_page(tmp_path):
    path = write(Report("Nothing yet", Metric("latency", "ms")), tmp_path / "deep" / "page.html")
    assert path == tmp_path / "deep" / "page.html"
    page = Page(path.read_text())
    assert not page.all("section")
    assert not page.all("img")


def test_a_long_table_says_what_it_leaves_out(make_report, tmp_path):
    failures = pd.DataFrame({"status": "crash", "count": range(300), "example": ""})
    page = Page(write(make_report(failures=failures), tmp_path).read_text())
    assert "The first 200 of 300 rows." in page.text


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make"):
        write(Report("t", Metric("m")), tmp_path / "file" / "below")


def test_a_default_that_nothing_beats_is_not_called_an_improvement(tmp_path):
    default = {"threads": 2}
    report = Report(
        title="Nothing better",
        metric=Metric("latency", "ms"),
        improvement=Improvement(default, default, 5.5, 5.5),
    )
    text = write(report, tmp_path).read_text()
    assert "Nothing that was found beats the default: 5.50 ms." in text
    assert "better than" not in text


def test_a_best_value_of_zero_is_shown_without_a_factor(tmp_path):
    improvement = Improvement({"threads": 2}, {"threads": 4}, 5.5, 0.0)
    report = Report("No frame is lost", Metric("lost", "frames"), improvement=improvement)
    text = write(report, tmp_path).read_text()
    assert "lost 5.50 frames with the default, 0 frames with the best configuration" in text
    assert "better than" not in text
