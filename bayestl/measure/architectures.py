"""Architectures as networks: published sizes, seeded random weights, nothing downloaded.

How fast a network runs depends on its shape, hardly on its weights, so that a
configuration of the `transformers` library stands for a trained network. What is known
about an architecture needs no library; `build` and `export_onnx` run in a child process,
where they import torch and transformers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayestl.errors import NetworkError
from bayestl.measure.onnx_file import TensorInfo

if TYPE_CHECKING:
    import torch

INSTALL = 'in the checkout of bayestl: pip install ".[architectures]"'
BUILT_WITH = ("torch", "transformers")
EXPORTED_WITH = (*BUILT_WITH, "onnx", "onnxscript")


@dataclass(frozen=True)
class Size:
    """What can vary of an input beside its batch: from `low` to `high`, both allowed."""

    unit: str
    default: int
    low: int
    high: int

    def __contains__(self, size: int) -> bool:
        return self.low <= size <= self.high

    def __str__(self) -> str:
        low = "" if self.low == self.high else f"{self.low} to "
        return f"{low}{self.high} {self.unit}"


IMAGE = Size("pixels a side", 224, 32, 1024)
IMAGE_224 = Size("pixels a side", 224, 224, 224)  # as many positions as the weights know
TOKENS = Size("tokens", 128, 1, 512)
TOKENS_1024 = Size("tokens", 128, 1, 1024)
AUDIO = Size("samples at 16 kHz", 16_000, 400, 480_000)
AUDIO_30_S = Size("frames of 10 ms", 3000, 3000, 3000)

PIXELS = (TensorInfo("pixel_values", "float32", ("batch", 3, "size", "size")),)
WORDS = (TensorInfo("input_ids", "int64", ("batch", "size")),)
MASKED_WORDS = (*WORDS, TensorInfo("attention_mask", "int64", ("batch", "size")))
WAVES = (TensorInfo("input_values", "float32", ("batch", "size")),)
FRAMES = (TensorInfo("input_features", "float32", ("batch", 80, "size")),)


@dataclass(frozen=True)
class Architecture:
    """A published variant of a network, to be built with random weights.

    Parameters
    ----------
    name : what `find_network` knows it by
    kind : what it takes: ``"image"``, ``"text"`` or ``"audio"``
    inputs : the open dimensions are named ``"batch"`` and ``"size"``
    size : what ``"size"`` may be
    output : the name of what it computes
    parameters : how many weights it has, shared ones counted once
    model, config : names of classes of transformers
    values : of the configuration, where the variant differs from the class's defaults
    source : the publication, and the table or file that the values are from
    part : the attribute of the model that runs, such as ``"encoder"``; all of it by default
    call : further arguments of each call
    vocabulary : integer inputs are below this
    """

    name: str
    kind: str
    inputs: tuple[TensorInfo, ...]
    size: Size
    output: str
    parameters: int
    model: str
    config: str
    values: Mapping[str, Any]
    source: str
    part: str = ""
    call: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 2

    def digest(self, seed: int = 0) -> str:
        """64 hexadecimal digits that change with the shape, the seed and transformers' version.

        Raises
        ------
        NetworkError
            If a package that builds it is not installed.
        """
        require(self.name, BUILT_WITH)
        parts = [self.name, self.model, self.part, dict(self.values), dict(self.call), seed]
        text = json.dumps([*parts, installed_version("transformers")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _bert(layers: int, width: int) -> dict[str, Any]:
    """A BERT of Turc et al. (2019, table 1): heads of 64, an inner width of four times its own."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "vocab_size": 30_522,
    }


ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "mobilenet_v2", "image", PIXELS, IMAGE, "logits", 3_504_872,
            "MobileNetV2ForImageClassification", "MobileNetV2Config",
            {"num_labels": 1000, "depth_multiplier": 1.0},
            "Sandler et al. (2018), MobileNetV2, table 2",
        ),
        Architecture(
            "resnet18", "image", PIXELS, IMAGE, "logits", 11_689_512,
            "ResNetForImageClassification", "ResNetConfig",
            {"num_labels": 1000, "layer_type": "basic", "depths": [2, 2, 2, 2],
             "hidden_sizes": [64, 128, 256, 512]},
            "He et al. (2016), Deep residual learning, table 1",
        ),
        Architecture(
            "resnet50_v1_5", "image", PIXELS, IMAGE, "logits", 25_557_032,
            "ResNetForImageClassification", "ResNetConfig",
            {"num_labels": 1000, "layer_type": "bottleneck", "depths": [3, 4, 6, 3],
             "hidden_sizes": [256, 512, 1024, 2048]},
            "He et al. (2016), table 1, with the stride in the 3 x 3 convolution, as MLPerf has it",
        ),
        Architecture(
            "convnext_tiny", "image", PIXELS, IMAGE, "logits", 28_589_128,
            "ConvNextForImageClassification", "ConvNextConfig",
            {"num_labels": 1000, "depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768],
             "layer_scale_init_value": 1.0},  # with 1e-6 no block would count in the output
            "Liu et al. (2022), A ConvNet for the 2020s, section 3",
        ),
        Architecture(
            "deit_tiny", "image", PIXELS, IMAGE_224, "logits", 5_717_416,
            "ViTForImageClassification", "ViTConfig",
            {"num_labels": 1000, "hidden_size": 192, "num_hidden_layers": 12,
             "num_attention_heads": 3, "intermediate_size": 768, "image_size": 224,
             "patch_size": 16},
            "Touvron et al. (2021), DeiT, table 1, DeiT-Ti",
        ),
        Architecture(
            "bert_tiny", "text", MASKED_WORDS, TOKENS, "last_hidden_state", 4_385_920,
            "BertModel", "BertConfig", _bert(2, 128),
            "Turc et al. (2019), Well-read students, table 1, BERT-tiny", vocabulary=30_522,
        ),
        Architecture(
            "bert_mini", "text", MASKED_WORDS, TOKENS, "last_hidden_state", 11_170_560,
            "BertModel", "BertConfig", _bert(4, 256),
            "Turc et al. (2019), Well-read students, table 1, BERT-mini", vocabulary=30_522,
        ),
        Architecture(
            "distilbert", "text", MASKED_WORDS, TOKENS, "last_hidden_state", 66_362_880,
            "DistilBertModel", "DistilBertConfig",
            {"n_layers": 6, "dim": 768, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 30_522},
            "Sanh et al. (2019), DistilBERT, section 3, distilbert-base-uncased",
            vocabulary=30_522,
        ),
        Architecture(
            "distilgpt2", "text", WORDS, TOKENS_1024, "logits", 81_912_576,
            "GPT2LMHeadModel", "GPT2Config",
            {"n_layer": 6, "n_embd": 768, "n_head": 12, "n_positions": 1024,
             "vocab_size": 50_257},
            "Radford et al. (2019), GPT-2, table 2 (small), with 6 layers as distilgpt2 has; "
            "one prefill, the logits of the last token",
            call={"use_cache": False, "logits_to_keep": 1}, vocabulary=50_257,
        ),
        Architecture(
            "whisper_tiny_encoder", "audio", FRAMES, AUDIO_30_S, "last_hidden_state", 8_208_384,
            "WhisperModel", "WhisperConfig",
            {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6,
             "encoder_ffn_dim": 1536, "decoder_layers": 0, "num_mel_bins": 80,
             "max_source_positions": 1500},
            "Radford et al. (2022), Whisper, table 1 (tiny), the encoder alone", part="encoder",
        ),
        Architecture(
            "wav2vec2_base", "audio", WAVES, AUDIO, "last_hidden_state", 94_371_712,
            "Wav2Vec2Model", "Wav2Vec2Config",
            {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072},
            "Baevski et al. (2020), wav2vec 2.0, section 4.2 (BASE)",
        ),
    )
}  # fmt: skip
"""Architecture's name -> what it is."""


def require(name: str, packages: tuple[str, ...]) -> None:
    """Raise `NetworkError` unless what `name` needs is installed; nothing is imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise NetworkError(
            f"architecture {name!r} needs {' and '.join(missing)}, not installed here; {INSTALL}"
        )


def build(name: str, seed: int = 0) -> torch.nn.Module:
    """The architecture as a module in evaluation mode, called with its inputs in order.

    Batch normalizations take their scale from one random batch. With the initial scale
    the activations of a deep network, such as a MobileNet, die away into denormal
    numbers: slow, and nothing that a trained network does.

    Raises
    ------
    NetworkError
        If there is no such architecture, or a package that builds it is not installed.
    """
    architecture = _find(name)
    require(name, BUILT_WITH)
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # not a word about losses, which nobody trains

    class Positional(torch.nn.Module):
        """The model, with tensors in and one tensor out."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model
            self.names = [tensor.name for tensor in architecture.inputs]

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            given = dict(zip(self.names, tensors, strict=True))
            return self.model(**given, **architecture.call)[architecture.output]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(transformers, architecture.config)(**architecture.values)
        model = getattr(transformers, architecture.model)(config)
        part = getattr(model, architecture.part) if architecture.part else model
        network = Positional(part).eval().requires_grad_(False)
        _normalize(network, architecture)
    return network


def _normalize(network: torch.nn.Module, architecture: Architecture) -> None:
    """Have batch normalizations divide by the root mean square of one random batch's channels.

    Not subtracting the mean keeps rounding errors of short formats from growing.
    """
    import torch

    def observe(layer: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        state = dict(layer.named_buffers())
        state["running_var"].copy_(arguments[0].square().mean((0, 2, 3)))

    layers = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(observe) for layer in layers]
    if hooks:
        with torch.inference_mode():
            network(*_examples(architecture, batch=4, size=96))
    for hook in hooks:
        hook.remove()


def _examples(architecture: Architecture, batch: int, size: int) -> tuple[torch.Tensor, ...]:
    """Inputs of the right types and shapes; from torch's random numbers where they are floats."""
    import torch

    known = {"batch": batch, "size": size}
    examples = []
    for tensor in architecture.inputs:
        shape = [known[d] if isinstance(d, str) else d for d in tensor.shape if d is not None]
        dtype = getattr(torch, tensor.dtype)
        make = torch.rand if dtype.is_floating_point else torch.ones
        examples.append(make(shape, dtype=dtype))
    return tuple(examples)


def export_onnx(name: str, path: Path, *, batch: int, size: int, seed: int = 0) -> Path:
    """The architecture as an ONNX file for one batch and size, at `path`; made once.

    A file that is there is whole: it is written beside its place and moved there.

    Raises
    ------
    NetworkError
        If there is no such architecture, or a package that exports it is not installed.
    """
    architecture = _find(name)
    require(name, EXPORTED_WITH)
    if path.exists():
        return path
    network = build(name, seed)
    import torch

    draft = path.with_suffix(f".{os.getpid()}")
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it warns that torchvision is not there
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the exporter's own, about torch's own
            torch.onnx.export(
                network,
                _examples(architecture, batch, size),
                str(draft),
                input_names=[tensor.name for tensor in architecture.inputs],
                output_names=[architecture.output],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        draft.rename(path)
    finally:
        exporter.setLevel(level)
        draft.unlink(missing_ok=True)
    return path


def _find(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise NetworkError(
            f"unknown architecture {name!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
