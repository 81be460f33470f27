"""Predicting very many configurations: in blocks, which bounds the memory, and side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import torch

from bayestl.models.gaussian_process.fitting import one_thread
from bayestl.models.model import Configs

ROWS = 16_384
"""How many configurations are answered at a time, about 50 MB a thread."""


def in_blocks(answer: Callable[[Configs], pd.DataFrame], configs: Configs) -> pd.DataFrame:
    """`answer(configs)`, whose every row depends on its configuration alone.

    More than `ROWS` rows of a frame are split, and as many blocks are answered at a time
    as torch may use threads; fewer rows gain nothing by it.
    """
    if not isinstance(configs, pd.DataFrame) or len(configs) <= ROWS:
        return answer(configs)
    blocks = [configs.iloc[start : start + ROWS] for start in range(0, len(configs), ROWS)]
    workers = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        return pd.concat(pool.map(answer, blocks))
