"""Cards of weights: written, read back, and read by people."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sr_core.archs import ARCHS
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.card import Purpose, Source, card_for, card_json, card_key, card_markdown, new_card, read_card
from sr_core.errors import ModelError
from sr_core.model import ColorMode, load_model
from sr_core.pretrained import BUNDLED, DEFAULTS

CONFIG = EspcnConfig((16, 8), 2)
CARD = replace(
    new_card(ESPCN.build(CONFIG), ESPCN, CONFIG),
    sources=(Source("gardens", 1200, "CC BY 4.0", "A. Gardener | and others"), Source("plain", 3)),
    recipe={"stage 0": "L1, 1,000,000 images", "seed": "5"},
    num_images=1_234_567,
    figures={"Set5": {"psnr_y": 37.123, "ssim_y": 0.9567}, "Set14": {"psnr_y": 32.5}},
    licence="Apache-2.0",
)


def test_a_card_is_read_back_as_it_was_written() -> None:
    assert read_card(card_json(CARD), "x.json") == CARD


def test_a_new_card_tells_what_the_network_tells() -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=3)
    network = COMPACT.build(config)

    card = new_card(network, COMPACT, config)

    assert (card.arch, card.scale, card.color_mode, card.dtype) == ("compact", 3, "rgb", "float32")
    assert card.num_parameters == sum(weight.numel() for weight in network.parameters())
    assert card.config["num_feat"] == 4
    assert set(card.made_with) == {"framelift", "torch"}


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"scale": "2"}, "scale: "),
        ({"scale": None}, "scale is missing"),
        ({"kernels": 3}, "kernels: "),
        ({"figures": {"Set5": {"psnr_y": "high"}}}, "figures.Set5.psnr_y: "),
        ({"sources": [{"name": "x"}]}, "sources.0.num_pictures: "),
    ],
)
def test_what_is_wrong_with_a_card_is_told_by_its_key(changes: dict[str, object], got: str) -> None:
    content = json.dumps({**json.loads(card_json(CARD)), **changes}).encode()

    with pytest.raises(ModelError, match="not the card") as caught:
        read_card(content, "x.json")

    assert caught.value.got.startswith(got)
    assert caught.value.where == "x.json"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"arch": "espcn"', b"\xff\xfe"])
def test_what_is_no_card_at_all_is_told(content: bytes) -> None:
    with pytest.raises(ModelError, match="not the card"):
        read_card(content, "x.json")


def test_figures_that_are_not_finite_are_no_figures() -> None:
    with pytest.raises(ModelError):
        read_card(card_json(CARD).replace(b"37.123", b"NaN"), "x.json")


def test_people_read_figures_data_recipe_and_licence() -> None:
    text = card_markdown(CARD, "garden-x2.safetensors")

    lines = text.splitlines()
    assert lines[0] == "---"
    assert 'license: "Apache-2.0"' in lines
    assert "# garden-x2" in lines
    assert "framelift upscale IN OUT --model garden-x2.safetensors" in lines
    assert "| data | PSNR of luma, dB | SSIM of luma |" in lines
    assert "| Set5 | 37.12 | 0.9567 |" in lines
    assert "| Set14 | 32.50 |  |" in lines
    assert "| gardens | 1,200 | CC BY 4.0 | A. Gardener \\| and others |" in lines
    assert "| plain | 3 | not stated |  |" in lines
    assert "- images seen: 1,234,567" in lines


@pytest.mark.parametrize(
    ("purpose", "facts", "told"),
    [
        (Purpose.GENERATION, {}, ["framelift generate net.safetensors OUT", "images are made of noise"]),
        (
            Purpose.CLASSIFICATION,
            {"classes": ("cat", "dog")},
            ["told apart as one of cat, dog", "image-clas"],
        ),
        (Purpose.GUIDED, {"scale": 4}, ["--weights net.safetensors", "4 times as large"]),
    ],
)
def test_people_read_what_weights_are_for(purpose: Purpose, facts: dict[str, Any], told: list[str]) -> None:
    config = CompactConfig(num_feat=4, num_conv=1)
    card = card_for(purpose, COMPACT.build(config), COMPACT, config, **facts)

    text = card_markdown(card, "net.safetensors")

    assert all(each in text for each in told)
    assert "framelift upscale" not in text
    assert read_card(card_json(card), "net.json") == card


def test_a_card_without_what_its_purpose_needs_is_none() -> None:
    content = card_json(CARD).replace(b'"super-resolution"', b'"image-classification"')

    with pytest.raises(ModelError, match="classes is missing"):
        read_card(content, "x.json")


def test_what_is_not_known_is_said_to_be_so() -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    text = card_markdown(new_card(COMPACT.build(config), COMPACT, config), "x.safetensors")

    assert "None were measured." in text
    assert text.count("not stated") == 3
    assert "license:" not in text


@pytest.mark.parametrize(
    ("weights", "card"),
    [("a.b/x2.safetensors", "a.b/x2.json"), ("net.v1.pth", "net.v1.json"), ("s3://b/x.pth", "s3://b/x.json")],
)
def test_a_card_lies_beside_its_weights(weights: str, card: str) -> None:
    assert card_key(weights) == card


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_what_its_card_says(name: str) -> None:
    path = BUNDLED[name]
    card = read_card(path.with_suffix(".json").read_bytes(), name)
    model = load_model(str(path))
    assert model.origin is not None

    arch = next(arch for arch in ARCHS if arch.name == model.origin.arch)
    own = new_card(model.network, arch, model.origin.config)
    told = (card.arch, card.config, card.scale, card.num_parameters)
    assert told == (own.arch, own.config, own.scale, own.num_parameters)
    assert card.licence
    assert card.sources
    assert card.figures
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card_markdown(card, path.name)


@pytest.mark.parametrize("scale", [scale for scale, name in DEFAULTS.items() if name in BUNDLED])
def test_what_is_taken_by_default_makes_its_scale_of_films_and_pictures(scale: int) -> None:
    facts = load_model(DEFAULTS[scale]).facts
    assert facts.scale == scale
    assert facts.num_frames == 1
    assert facts.color_mode in (ColorMode.RGB, ColorMode.LUMA)
