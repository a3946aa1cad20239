from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import jobs
from cluster.storage.address import S3Settings
from cluster.training.job import LpipsFiles
from cluster.training.recoding import RecodedShare
from cluster.training.split import SplitSettings
from cluster.training.tasks.depth import DepthSettings
from cluster.training.tasks.images import GanSettings, VaeSettings
from cluster.training.tasks.video import VideoSettings
from jobs.flags import TRAIN_FLAGS
from jobs.keys import Key, dotted, paths
from jobs.load import Given, load
from jobs.schema import schema_text, spec_schema
from jobs.train_spec import TrainSpec, network_of
from jobs.train_stages import STAGE_KINDS, PixelLosses, PixelStageSpec
from jobs.train_tasks import TASK_KINDS, network_at
from sr_core.archs import ARCHS
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig
from sr_core.archs.espcn import EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.discriminators import DISCRIMINATORS
from sr_core.errors import SpecError
from sr_core.generative.gan import GanConfig
from sr_core.generative.vae import VAE as VAE_FAMILY
from sr_core.generative.vae import VaeConfig
from sr_core.guided import GuidedConfig
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage, PerceptualTerm
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.bsrgan import Bsrgan
from sr_core.train.degradations.real_esrgan import SECOND_STAGE, RealEsrgan, StageSettings
from sr_core.train.elbo import ElboStage
from sr_core.train.game import Player
from sr_core.train.gan_stage import GanStage
from sr_core.train.gem import BetaRule, GemSettings
from sr_core.train.losses import ADVERSARIAL_LOSSES, FEATURE_NETWORKS
from sr_core.train.losses.pixel import PIXEL_LOSSES
from sr_core.train.measures import Measure
from sr_core.train.motion import MotionSettings
from sr_core.train.schedule import Course, Schedule
from sr_core.train.squares import SquareSettings
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence, Stage
from sr_core.train.updates import AdamSettings, RuleName, UpdateSettings
from sr_core.weights import pack_weights

EXAMPLES = Path(jobs.__file__).parent / "examples"
NAMES = ", ".join(sorted({arch.name for kind in TASK_KINDS for arch, _ in kind.networks}))
STAGES = ", ".join(sorted(STAGE_KINDS))
LEAST = "output: run\nnetwork: {arch: espcn}\ndata: {train: [photos]}\n"


def spec(tmp_path: Path, text: str, **flags: Given) -> TrainSpec:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    return load(TrainSpec, path, flags)


def mistakes(tmp_path: Path, text: str, **flags: Given) -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec(tmp_path, text, **flags)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_every_mistake_in_lists_and_kinds_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        "output: run\nnetwork:\n  arch: espn\n  scale: 2\nlearning_rate: 3\ndata:\n  train: photos\n"
        "degradation:\n  kind: second-order\n  first:\n    kernel: {sides_px: [2, 3]}\n"
        "  second: {jpeg_quality: [1]}\n"
        "stages:\n  - kind: pixel\n    lr: 1e-3\n    losses: {l1: 0}\n  - pixel\n  - kind: pixels\n"
        "  - images: 3\n  - kind: pixel\n    schedule: {course: cosin}\n"
        "  - kind: pixel\n    batch: 0\n    schedule: {last: 2}\n    learning_rate: .nan\n"
    )
    assert mistakes(tmp_path, text) == [
        f"train.yaml:3: network.arch: got 'espn', expected one of {NAMES}; did you mean 'espcn'?",
        "train.yaml:5: learning_rate: unknown key; did you mean 'stages.0.learning_rate'?",
        "train.yaml:7: data.train: got 'photos', expected a list of texts, 1 at least",
        "train.yaml:11: degradation.first.kernel.sides_px: kernels have a middle; got (2, 3); "
        "expected odd sides",
        "train.yaml:12: degradation.second.jpeg_quality: got a list of 1, expected a list of 2 integers",
        "train.yaml:15: stages.0.lr: unknown key; did you mean 'stages.0.learning_rate'?",
        "train.yaml:16: stages.0.losses: no loss has a weight above 0",
        "train.yaml:17: stages.1: got 'pixel', expected keys below it, kind among them",
        f"train.yaml:18: stages.2.kind: got 'pixels', expected one of {STAGES}; did you mean 'pixel'?",
        f"train.yaml:19: stages.3.kind: missing, expected one of {STAGES}: What is done: `pixel` "
        "compares what the network makes with the truth, `adversarial` trains it against a discriminator as "
        "well; `elbo` trains a VAE, `gan` a GAN, `cross-entropy` a classifier.",
        "train.yaml:21: stages.4.schedule.course: got 'cosin', expected one of constant, cosine, steps; "
        "did you mean 'cosine'?",
        "train.yaml:23: stages.5.batch: got 0, expected an integer from 1 to 65536",
        "train.yaml:24: stages.5.schedule: Shares of the learning rate go from 0 to 1; "
        "got last 2.0, step 0.5",
        "train.yaml:25: stages.5.learning_rate: got nan, expected a number above 0 and up to 1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "output: run\ndata: {train: [a]}\n",
            "train.yaml:1: network: missing, expected a network to train, or in start the weights of one",
        ),
        (
            "output: run\nnetwork: {scale: 3}\ndata: {train: [a]}\n",
            f"train.yaml:2: network.arch: missing, expected one of {NAMES}: What is trained: an upscaler, "
            "one of `framelift models`; guided, which upscales depth maps; vae or gan, which make images of "
            "noise; classifier, which tells apart what lies in several folders.",
        ),
        (
            "output: run\nnetwork: {arch: rrdb, scale: 4}\ndata: {train: [a]}\n",
            "train.yaml:2: network.scale: no key of rrdb, expected one of arch, num_feat, num_blocks, "
            "num_grow, num_doublings, unshuffle",
        ),
        (
            "output: run\nnetwork: {arch: espcn, num_feats: [32, x]}\ndata: {train: [a]}\n",
            "train.yaml:2: network.num_feats.1: got 'x', expected an integer",
        ),
        (
            "output: run\nnetwork: {arch: espcn}\ndata:\n  train:\n  - a\n  - [b]\n  - s3://me:x@b/c\n",
            "train.yaml:6: data.train.1: got a list, expected a text",
        ),
        (
            "output: run\nnetwork: {arch: espcn}\ndata:\n  train:\n  - a\n  - s3://me:x@b/c\n",
            "train.yaml:6: data.train.1: s3://…: credentials do not belong into an address; "
            "expected s3://bucket/prefix; "
            "give them in the environment or in ~/.aws, as for every AWS tool",
        ),
        (
            "output: run\nnetwork: {arch: espcn}\ndata: {train: []}\n",
            "train.yaml:3: data.train: got an empty list, expected a list of texts, 1 at least",
        ),
        (
            LEAST + "stages: [{kind: pixel, losses: {ssim: 1}}]\ncrops: {lr_px: 5}\n",
            "train.yaml:5: crops.lr_px: got 5, expected an integer from 8 to 1024",
        ),
        (
            "output: run\nnetwork: {arch: fsrcnn, scale: 1}\ndata: {train: [a]}\ncrops: {lr_px: 8}\n"
            "stages:\n- {kind: pixel, losses: {l1: 1, ssim: 1}}\n",
            "train.yaml:6: stages.0.losses.ssim: needs HR crops of 11 px, and these have 8",
        ),
        (
            LEAST + "stages:\n- kind: pixel\n- kind: pixel\n  batch: 15\nworkers: {count: 2}\n",
            "train.yaml:7: stages.1.batch: got 15, expected a multiple of 2, the number of workers",
        ),
        (
            LEAST + "workers: {device: cuda, gpus: 0}\n",
            "train.yaml:4: workers.gpus: no GPU for a worker, but workers.device is cuda",
        ),
        (LEAST + "seed: -1\n", "train.yaml:4: seed: got -1, expected an integer from 0 upwards"),
        (LEAST + "minutes: 0\n", "train.yaml:4: minutes: got 0, expected a number above 0"),
        (
            LEAST + "degradation: {kind: bsrgan, sigma: [9, 2]}\n",
            "train.yaml:4: degradation.sigma: this is no range of values that can be drawn; got 9 to 2; "
            "expected ascending, from 0 to inf",
        ),
        (
            LEAST + "degradation: {kind: first-order, sigma: [1, 2]}\n",
            "train.yaml:4: degradation.sigma: no key of first-order, expected one of kind, first, "
            "final_sinc_probability, final_sinc_sides_px",
        ),
        (
            LEAST + "degradation: {kind: first-order, jpg_quality: [1, 2]}\n",
            "train.yaml:4: degradation.jpg_quality: unknown key; did you mean "
            "'degradation.first.jpeg_quality'?",
        ),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == [message]


def test_hyper_parameters_that_make_no_network_are_told_with_the_reason(tmp_path: Path) -> None:
    [told] = mistakes(tmp_path, "output: a\ndata: {train: [a]}\nnetwork: {arch: edsr, scale: 0}\n")

    assert told.startswith("train.yaml:3: network: there is no such network; got ")


def test_output_network_and_pictures_alone_are_a_run(tmp_path: Path) -> None:
    found = spec(tmp_path, LEAST)
    assert found.network is not None
    job = found.job(found.network)

    assert (job.task.arch.name, job.task.config) == ("espcn", EspcnConfig())
    assert job.data.sources == (str(Path("photos").absolute()),)
    assert job.data.least_side_px == job.task.lr_crop_px * 2
    assert job.task.degradation == Bicubic()
    assert [stage.losses for stage in job.stages] == [(("l1", 1.0),)]
    assert job.stages[0].stage.num_batches == 62_500


def test_every_key_reaches_the_run(tmp_path: Path) -> None:
    found = spec(
        tmp_path,
        "output: s3://b/run\nstart: s3://b/a.pth\n"
        "network: {arch: espcn, num_feats: [8], scale: 3, signal: rgb}\n"
        "data: {train: [s3://b/in, in], frame_stride: 5, memory_mb: 10}\n"
        "validation: {share: 0.2, most_different_bits: 3}\ncrops: {lr_px: 32, least_rescale: 0.5}\n"
        "stages:\n- {kind: pixel, images: 1e3, batch: 4, learning_rate: 1e-3, ema: 0.9,\n"
        "   losses: {mse: 1, charbonnier: 0.5}, schedule: {course: steps, milestones: [0.3], step: 0.1}}\n"
        "- {kind: pixel}\nnumerics: {precision: bf16, parts: 2, clip_norm: 1}\n"
        "cadence: {log: 1, validate: 2, checkpoint: 3, most_roll_backs: 4}\nseed: 9\n"
        "storage: {endpoint_url: http://minio}\n",
    )
    assert found.network is not None
    job = found.job(found.network)

    assert (job.output_url, job.start) == (
        "s3://b/run?endpoint_url=http://minio",
        "s3://b/a.pth?endpoint_url=http://minio",
    )
    assert job.task.config == EspcnConfig((8,), 3, Signal.RGB)
    assert job.data.sources == ("s3://b/in?endpoint_url=http://minio", str(Path("in").absolute()))
    assert (job.data.frame_stride, job.data.most_bytes, job.data.least_side_px) == (5, 10 << 20, 96)
    assert job.validation == SplitSettings(0.2, 3)
    assert (job.task.lr_crop_px, job.task.least_rescale, job.seed) == (32, 0.5, 9)
    schedule = Schedule(Course.STEPS, milestones=(0.3,), step=0.1)
    assert job.stages[0].stage == Stage(1000, 4, schedule, 0.9)
    assert job.stages[0].losses == (("mse", 1.0), ("charbonnier", 0.5))
    assert (job.stages[0].learning_rate, len(job.stages)) == (1e-3, 2)
    assert job.numerics == Numerics(torch.bfloat16, 2, 1.0)
    assert job.cadence == Cadence(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{kind: bicubic}", Bicubic()),
        ("{kind: bsrgan, sigma: [1, 9]}", Bsrgan(sigma=(1, 9))),
        (
            "{kind: first-order, first: {sigma: [1, 9]}}",
            RealEsrgan(stages=(StageSettings(sigma=(1.0, 9.0)),)),
        ),
        ("{kind: second-order}", RealEsrgan(stages=(StageSettings(), SECOND_STAGE))),
        ("{kind: second-order, final_sinc_probability: 0}", RealEsrgan(final_sinc_probability=0.0)),
    ],
)
def test_each_degradation_goes_by_its_kind(tmp_path: Path, section: str, expected: object) -> None:
    assert spec(tmp_path, f"{LEAST}degradation: {section}\n").degradation == expected


@pytest.mark.parametrize("arch", ARCHS, ids=lambda a: a.name)
def test_every_architecture_can_be_asked_for(tmp_path: Path, arch: object) -> None:
    name = getattr(arch, "name", "")
    found = spec(tmp_path, f"output: run\nnetwork: {{arch: {name}}}\ndata: {{train: [a]}}\n").network

    assert found == network_of(name, found.config if found else None)


def test_sections_and_lists_with_all_keys_commented_out_keep_their_defaults(tmp_path: Path) -> None:
    assert spec(tmp_path, LEAST + "stages:\n  # - kind: pixel\ndegradation:\n") == spec(tmp_path, LEAST)


def test_weights_to_start_from_stand_for_the_network(tmp_path: Path) -> None:
    found = spec(tmp_path, "output: run\nstart: a.pth\ndata: {train: [photos]}\n")

    assert (found.network, found.start_url) == (None, str(Path("a.pth").absolute()))


def test_flags_replace_keys_also_wrong_ones(tmp_path: Path) -> None:
    flags = {
        "workers.count": Given("--workers", "2"),
        "seed": Given("--seed", "x"),
        "output": Given("--output", "other"),
    }
    assert mistakes(tmp_path, LEAST + "workers: {count: [1]}\n", **flags) == [
        "--seed: seed: got 'x', expected an integer from 0 upwards"
    ]
    del flags["seed"]
    found = spec(tmp_path, LEAST + "workers: {count: [1]}\n", **flags)
    assert (found.workers.count, found.output) == (2, "other")


def test_every_flag_stands_for_a_key_that_there_is() -> None:
    schema = spec_schema(TrainSpec)
    keys = {dotted(path) for path, _ in paths(Key.of(schema, schema["$defs"]))}

    assert [flag.key for flag in TRAIN_FLAGS if flag.key not in keys] == []


def test_every_pixel_loss_has_its_key() -> None:
    assert tuple(PixelLosses.__dataclass_fields__) == tuple(loss.name for loss in PIXEL_LOSSES)


def test_the_example_is_the_default_but_for_its_network_and_names_every_key() -> None:
    path = EXAMPLES / "train.yaml"
    found = load(TrainSpec, path)
    least = TrainSpec.model_validate(
        {"output": found.output, "start": "a.pth", "data": {"train": ("photos",)}}
    )
    asked = {"network": found.network, "start": None, "stages": (PixelStageSpec().stage,)}
    assert found == least.model_copy(update=asked)

    schema, text = spec_schema(TrainSpec), path.read_text()
    kinds = ("network", "degradation")  # which have keys of their own in each kind
    named = [p for p, _ in paths(Key.of(schema, schema["$defs"])) if p[0] not in kinds or len(p) == 1]
    assert [dotted(p) for p in named if isinstance(p[-1], str) and f"{p[-1]}:" not in text] == []


def test_exported_schema_is_that_of_the_spec() -> None:
    assert (EXAMPLES / "train.schema.json").read_text() == schema_text(TrainSpec)


def test_schema_describes_every_key() -> None:
    schema = json.loads(schema_text(TrainSpec))
    parts = [schema, *schema["$defs"].values()]
    keys = [(name, key) for part in parts for name, key in part.get("properties", {}).items()]

    assert [name for name, key in keys if not key.get("description")] == []


def test_gradients_are_only_clipped_where_it_is_asked_for(tmp_path: Path) -> None:
    found = spec(tmp_path, LEAST)
    assert found.network is not None

    assert found.job(found.network).numerics.clip_norm == math.inf


def test_stores_are_spoken_to_as_the_spec_says(tmp_path: Path) -> None:
    found = spec(tmp_path, LEAST + "storage: {region: here}\n")

    assert found.storage == S3Settings(region="here")


def test_every_key_of_an_adversarial_stage_reaches_the_run(tmp_path: Path) -> None:
    found = spec(
        tmp_path,
        LEAST + "validation: {lpips_weights: a.pth, lpips_heads: b.pth, best_by: lpips}\nstages:\n"
        "- {kind: adversarial, images: 320, batch: 8, losses: {mse: 2}, ema: 0.9,\n"
        "   perceptual: [{weight: 0.5, network: alexnet, weights: a.pth, lpips_heads: b.pth}],\n"
        "   game: {loss: hinge, weight: 0.3, discriminator: patch, num_feat: 8, is_conditional: true,\n"
        "          feature_matching: 0.1, r1: 0.2, r2: 0.4, watch_batches: 7,\n"
        "          updates: {rule: gem, learning_rates: {generator: 2e-4, discriminator: 3e-4},\n"
        "                    adam: {beta1: 0.5}, gem: {beta_cap: 0.5, beta_rule: constant}}}}\n",
    )
    assert found.network is not None
    job = found.job(found.network)

    files = Path("a.pth").absolute(), Path("b.pth").absolute()
    rates = {Player.GENERATOR: 2e-4, Player.DISCRIMINATOR: 3e-4}
    gem = GemSettings(BetaRule.CONSTANT, 0.5)
    updates = UpdateSettings(RuleName.GEM, rates, adam=AdamSettings(beta1=0.5), gem=gem)
    assert job.stages == (
        AdversarialStage(
            Stage(320, 8, ema_decay=0.9),
            (("mse", 2.0),),
            (PerceptualTerm(0.5, "alexnet", *files),),
            AdversarialSettings(
                "hinge",
                feature_matching=0.1,
                r1=0.2,
                r2=0.4,
                updates=updates,
                watch_batches=7,
                weight=0.3,
                discriminator="patch",
                num_feat=8,
                is_conditional=True,
            ),
        ),
    )
    assert (job.task.lpips, job.best_by) == (LpipsFiles(*files), Measure.LPIPS)


def test_every_loss_discriminator_and_classifier_can_be_asked_for() -> None:
    schema = spec_schema(TrainSpec)
    keys = {dotted(path): key for path, key in paths(Key.of(schema, schema["$defs"]))}

    assert keys["stages.0.game.loss"].choices == [each.name for each in ADVERSARIAL_LOSSES]
    assert keys["stages.0.game.discriminator"].choices == [each.name for each in DISCRIMINATORS]
    assert keys["stages.0.perceptual.0.network"].choices == [
        *(each.name for each in FEATURE_NETWORKS),
        "classifier",
    ]


def test_mistakes_that_parts_of_a_stage_find_are_all_told_at_their_keys(tmp_path: Path) -> None:
    text = LEAST + (
        "stages:\n- kind: adversarial\n  images: 10\n  game:\n    updates:\n      adam:\n        beta2: 1\n"
        "      gem:\n        beta2: 0.5\n        eps: 0\n  schedule:\n    milestones: [2]\n"
        "  losses: {l1: 0}\nrecoding:\n  settings:\n    hevc: [9, 2]\n"
    )
    assert mistakes(tmp_path, text) == [
        "train.yaml:9: stages.0.game.updates.adam: a setting of Adam is out of range; got beta1 0.0, "
        "beta2 1.0, eps 1e-08; expected 0 <= beta1 < 1, 0 <= beta2 < 1 and eps > 0",
        "train.yaml:13: stages.0.game.updates.gem.eps: a setting of GEM is out of range; got 0.0; "
        "expected 0 <= beta_cap < 1, 0 <= beta2 < 1, eps > 0 and restart_every >= 0",
        "train.yaml:15: stages.0.schedule.milestones: Milestones are shares of the stage, ascending; "
        "got (2.0,); expected such as (0.5, 0.8)",
        "train.yaml:16: stages.0.losses: no loss has a weight above 0",
        "train.yaml:19: recoding.settings.hevc: this is no range of values that can be drawn; got 9 to 2; "
        "expected ascending, from 1 to 51",
    ]


@pytest.mark.parametrize("kind", ["pixel", "adversarial"])
def test_a_warm_up_that_outlasts_its_stage_is_refused(tmp_path: Path, kind: str) -> None:
    stage = f"stages:\n- kind: {kind}\n  images: 100\n  schedule:\n    warm_up_images: "

    assert mistakes(tmp_path, f"{LEAST}{stage}101\n") == [
        "train.yaml:8: stages.0.schedule.warm_up_images: the warm-up is longer than the stage; "
        "got 101 images; expected 100 at most, the images of the stage"
    ]
    assert spec(tmp_path, f"{LEAST}{stage}100\n").stages[0].stage.schedule.warm_up_images == 100


def test_files_of_a_perceptual_loss_mean_the_same_in_workers_elsewhere(tmp_path: Path) -> None:
    [found] = spec(tmp_path, LEAST + "stages: [{kind: adversarial, perceptual: [{weights: a.pth}]}]\n").stages

    assert isinstance(found, AdversarialStage)
    assert found.perceptual == (PerceptualTerm(weights=Path("a.pth").absolute()),)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("lpips_weights: a.pth", "LPIPS needs both lpips_weights and lpips_heads"),
        ("best_by: lpips", "best_by lpips needs lpips_weights and lpips_heads"),
    ],
)
def test_half_of_what_lpips_needs_is_told(tmp_path: Path, section: str, message: str) -> None:
    assert mistakes(tmp_path, f"{LEAST}validation: {{{section}}}\n") == [
        f"train.yaml:4: validation: {message}"
    ]


VAE = "output: run\nnetwork: {arch: vae, widths: [8, 16], image_px: 32}\ndata: {train: [photos]}\n"
GUIDED = "output: run\nnetwork: {arch: guided}\ndata: {train: [photos], depth: [maps]}\n"
GAN = "output: run\nnetwork: {arch: gan, widths: [16, 8], num_noise: 5}\ndata: {train: [photos]}\n"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            VAE + "crops: {lr_px: 32}\ndegradation: {kind: bicubic}\n",
            [
                "train.yaml:4: crops: this means nothing for vae; its own: squares",
                "train.yaml:5: degradation: this means nothing for vae; its own: squares",
            ],
        ),
        (
            LEAST + "squares: {least_share: 0.5}\n",
            ["train.yaml:4: squares: this means nothing for espcn; its own: crops, degradation, recoding"],
        ),
        (
            LEAST + "motion: {zoom: 0.1}\n",
            ["train.yaml:4: motion: this means nothing for espcn; its own: crops, degradation, recoding"],
        ),
        (
            "output: run\nnetwork: {arch: espcn}\ndata: {train: [a], depth: [b]}\n",
            ["train.yaml:3: data.depth: this means nothing for espcn"],
        ),
        (
            "output: run\nnetwork: {arch: guided}\ndata: {train: [a, b], depth: [c]}\n",
            [
                "train.yaml:3: data.depth: got 1, expected a folder of depth maps for each of the 2 places "
                "of data.train"
            ],
        ),
        (
            GUIDED + "crops: {least_rescale: 0.5}\nrecoding: {share: 1}\nstages: [{kind: adversarial}]\n",
            [
                "train.yaml:4: crops.least_rescale: depth maps are not shrunk before they are cropped, "
                "expected 1",
                "train.yaml:5: recoding: this means nothing for guided; its own: crops",
                "train.yaml:6: stages.0.kind: got adversarial, expected pixel for guided",
            ],
        ),
        (
            GUIDED.replace("guided", "guided, scale: 1")
            + "crops: {lr_px: 8}\nstages: [{kind: pixel, losses: {ssim: 1}}]\n",
            ["train.yaml:5: stages.0.losses.ssim: needs HR crops of 11 px, and these have 8"],
        ),
        (
            "output: run\nnetwork: {arch: early_fusion, color_mode: yuv420}\ndata: {train: [a]}\n",
            ["train.yaml:2: network.arch: this network cannot be trained; got early_fusion"],
        ),
        (
            VAE + "stages:\n- kind: elbo\n- kind: pixel\n",
            ["train.yaml:6: stages.1.kind: got pixel, expected elbo for vae"],
        ),
        (
            LEAST + "stages: [{kind: gan}]\n",
            ["train.yaml:4: stages.0.kind: got gan, expected pixel or adversarial for espcn"],
        ),
        (
            GAN + "validation: {best_by: psnr_y}\n",
            ["train.yaml:4: validation.best_by: got psnr_y, expected sliced_wasserstein for gan"],
        ),
        (
            GAN + "validation: {lpips_weights: a, lpips_heads: b}\n",
            ["train.yaml:4: validation.lpips_weights: LPIPS is not measured of gan"],
        ),
        (
            GAN + "stages: [{kind: gan, game: {discriminator: unet}}]\n",
            [
                "train.yaml:4: stages.0.game.discriminator: unknown key; "
                "did you mean 'stages.0.game.updates.learning_rates.discriminator'?"
            ],
        ),
        (
            "output: run\nnetwork:\n  arch: vae\n  image_px: 36\ndata: {train: [a]}\n",
            [
                "train.yaml:4: network.image_px: the encoder does not halve images of this size to the end; "
                "got 36 px, halved 4 times; expected a multiple of 16"
            ],
        ),
        (
            "output: run\nnetwork:\n  arch: gan\n  num_channels: 2\ndata: {train: [a]}\n",
            [
                "train.yaml:4: network.num_channels: pictures have no such channels; got 2; "
                "expected 1 for grey, or 3"
            ],
        ),
        (
            "output: run\nnetwork: {arch: classifier, num_classes: 3}\ndata: {train: [a]}\n",
            ["train.yaml:2: network.num_classes: unknown key; did you mean 'network.num_channels'?"],
        ),
    ],
)
def test_what_means_nothing_for_a_network_is_refused(tmp_path: Path, text: str, messages: list[str]) -> None:
    assert mistakes(tmp_path, text) == messages


def test_the_task_follows_from_the_network(tmp_path: Path) -> None:
    found = spec(
        tmp_path,
        VAE + "squares: {least_share: 0.5, is_mirrored: false}\nvalidation: {best_by: psnr}\n"
        "stages: [{kind: elbo, images: 80, batch: 4, deviation: 0.2, learning_rate: 1e-2}]\n",
    )
    assert found.network is not None
    job = found.job(found.network)

    squares = SquareSettings(least_share=0.5, is_mirrored=False)
    assert job.task == VaeSettings(VaeConfig(widths=(8, 16), image_px=32), squares)
    assert (job.data.least_side_px, job.decisive) == (32, Measure.PSNR)
    assert job.stages == (ElboStage(Stage(80, 4), 0.2, 1e-2),)


def test_a_network_without_stages_gets_one_of_its_own_kind(tmp_path: Path) -> None:
    found = spec(tmp_path, GAN)
    assert found.network is not None
    job = found.job(found.network)

    assert job.task == GanSettings(GanConfig(5, (16, 8)))
    assert [type(stage) for stage in job.stages] == [GanStage]
    assert (job.data.least_side_px, job.decisive) == (16, Measure.SLICED_WASSERSTEIN)


def test_a_network_that_sees_several_frames_learns_from_clips(tmp_path: Path) -> None:
    found = spec(
        tmp_path,
        "output: run\nnetwork: {arch: early_fusion, num_frames: 5, scale: 3}\ndata: {train: [a]}\n"
        "motion: {pan_px: [1, 2], zoom: 0}\ncrops: {lr_px: 20}\nrecoding: {share: 0.7}\n",
    )
    assert found.network is not None
    job = found.job(found.network)

    config = EarlyFusionConfig(num_frames=5, scale=3)
    motion = MotionSettings(pan_px=(1.0, 2.0), zoom=0.0)
    task = VideoSettings(EARLY_FUSION, config, lr_crop_px=20, recoding=RecodedShare(0.7), motion=motion)
    assert job.task == task
    assert job.data.least_side_px == 60


def test_a_guided_network_learns_from_images_and_their_depth(tmp_path: Path) -> None:
    found = spec(tmp_path, GUIDED.replace("depth: [maps]", "depth: [s3://b/maps]"))
    assert found.network is not None
    job = found.job(found.network)

    assert job.task == DepthSettings(GuidedConfig(), ("s3://b/maps",), 48)
    assert (job.data.least_side_px, job.decisive) == (192, Measure.PSNR)


def test_a_guided_network_of_weights_needs_depth_too(tmp_path: Path) -> None:
    found = spec(tmp_path, "output: run\nstart: a\ndata: {train: [a]}\n")

    with pytest.raises(SpecError, match="got 0, expected a folder of depth maps"):
        found.job(network_of("guided", GuidedConfig()))


def test_the_classes_of_a_classifier_are_its_folders(tmp_path: Path) -> None:
    for name in ("animals/dogs/a.png", "animals/cats/old/b.png", "plants/c.png", "plants/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sources = f"[{tmp_path / 'animals'}, {tmp_path / 'plants'}]"
    found = spec(tmp_path, f"output: run\nnetwork: {{arch: classifier}}\ndata: {{train: {sources}}}\n")
    assert found.network is not None

    task = found.job(found.network).task
    assert task.classes == ("cats", "dogs", "plants")
    assert task.config.num_classes == 3


def test_pictures_whose_class_is_not_clear_are_refused(tmp_path: Path) -> None:
    for name in ("animals/a.png", "animals/cats/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for source, told in (
        ("animals", "pictures right in it and in folders below"),
        ("animals/a.png", "a single"),
    ):
        asked = f"output: run\nnetwork: {{arch: classifier}}\ndata: {{train: [{tmp_path / source}]}}\n"
        found = spec(tmp_path, asked)
        assert found.network is not None
        with pytest.raises(SpecError, match=told):
            found.job(found.network)


def test_a_network_of_weights_also_refuses_what_means_nothing_for_it(tmp_path: Path) -> None:
    found = spec(tmp_path, "output: run\nstart: a\ndata: {train: [a]}\ncrops: {lr_px: 32}\n")

    with pytest.raises(SpecError, match="crops: this means nothing for gan"):
        found.job(network_of("gan", GanConfig(5, (16, 8))))


def test_weights_tell_which_network_they_are_of(tmp_path: Path) -> None:
    config = VaeConfig(4, (8, 16), 16)
    path = tmp_path / "vae.safetensors"
    path.write_bytes(pack_weights(VAE_FAMILY.build(config), VAE_FAMILY, config))

    found = network_at(str(path))

    assert (found.arch.name, found.config) == ("vae", config)


def test_workers_share_the_usual_stage_too(tmp_path: Path) -> None:
    text = "output: run\nnetwork: {arch: espcn}\ndata: {train: [photos]}\nworkers: {count: 3}\n"

    (mistake,) = mistakes(tmp_path, text)

    assert "stages.0.batch: got 16, expected a multiple of 3, the number of workers" in mistake
