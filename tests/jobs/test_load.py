from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from jobs.load import Given, load_spec, spec_from_flags
from jobs.spec import UpscaleSpec
from sr_core.errors import SpecError

PATHS = "input: in\noutput: out\n"


def load(tmp_path: Path, text: str | bytes, **flags: Given) -> UpscaleSpec:
    path = tmp_path / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_spec(path, flags)


def mistakes(tmp_path: Path, text: str | bytes, **flags: Given) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text, **flags)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_five_mistakes_give_five_messages_with_line_and_nearest_key(tmp_path: Path) -> None:
    text = (
        "input: in\noutput: out\nscale: two\ntile: 256\nvideo:\n  preset: slow\n  codec: h265\n"
        "  qualty: 18\nengine:\n  batch_size: 0\n"
    )
    assert mistakes(tmp_path, text) == [
        "job.yaml:3: scale: got 'two', expected an integer from 1 to 16",
        "job.yaml:4: tile: unknown key; did you mean 'engine.tile_px'?",
        "job.yaml:7: video.codec: got 'h265', expected one of auto, h264, hevc, av1, vp9, ffv1, prores; "
        "did you mean 'hevc'?",
        "job.yaml:8: video.qualty: unknown key; did you mean 'video.quality'?",
        "job.yaml:10: engine.batch_size: got 0, expected an integer from 1 to 1024",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: a\noutput: b\ninput: c\n", "job.yaml:3: input: given twice, the first time at job.yaml:1"),
        (
            "input: a\n",
            "job.yaml:1: output: missing, expected a text: The file or folder to write; folders mirror the "
            "tree of the input.",
        ),
        ("input: ''\noutput: b\n", "job.yaml:1: input: got nothing, expected a text"),
        ("input:\noutput: b\n", "job.yaml:1: input: got nothing, expected a text"),
        ("input: [a]\noutput: b\n", "job.yaml:1: input: got a list, expected a text"),
        (PATHS + "overwrite: 1\n", "job.yaml:3: overwrite: got 1, expected true or false"),
        (PATHS + "scale: true\n", "job.yaml:3: scale: got true, expected an integer from 1 to 16"),
        (PATHS + "scale: '2'\n", "job.yaml:3: scale: got '2', expected an integer from 1 to 16"),
        (PATHS + "scale: 2.5\n", "job.yaml:3: scale: got 2.5, expected an integer from 1 to 16"),
        (PATHS + "workers: {cpus: 0}\n", "job.yaml:3: workers.cpus: got 0, expected a number above 0"),
        (
            PATHS + "segments: {seconds: .nan}\n",
            "job.yaml:3: segments.seconds: got nan, expected a number from 0.5 to 3600",
        ),
        (
            PATHS + "video: {quality: best}\n",
            "job.yaml:3: video.quality: got 'best', expected a number or one of auto, lossless",
        ),
        (
            PATHS + "video: h264\n",
            "job.yaml:3: video: got 'h264', expected keys below it: codec, preset, quality, container",
        ),
        (
            PATHS + "scale: !!python/object/apply:os.system [ls]\n",
            "job.yaml:3: scale: got a list, expected an integer from 1 to 16",
        ),
        (
            PATHS + "codec: h264\n",
            "job.yaml:3: codec: unknown key; did you mean 'video.codec'?",
        ),
        (PATHS + "crf: 18\n", "job.yaml:3: crf: unknown key; did you mean 'video.quality'?"),
        (
            PATHS + "policies: {zzz: 1}\n",
            "job.yaml:3: policies.zzz: unknown key, expected one of strict, deinterlace",
        ),
        (PATHS + "scale: 2\nheight: 720\n", "job.yaml:4: height: given beside a scale; give one of the two"),
        (
            PATHS + "workers:\n  gpus: 1\n  device: cpu\n",
            "job.yaml:4: workers.gpus: 1 GPUs for each worker, but workers.device is cpu",
        ),
        (
            PATHS + "video:\n  codec: hevc\n  container: webm\n",
            "job.yaml:5: video.container: got 'webm', expected one of mp4, mov, mkv for hevc",
        ),
        (
            PATHS + "video: {codec: h264, quality: 60}\n",
            "job.yaml:3: video.quality: got 60, expected 0 to 51 for h264",
        ),
        (
            PATHS + "storage: {endpoint_url: minio:9000}\n",
            "job.yaml:3: storage.endpoint_url: got 'minio:9000', expected a text: "
            "Of a store other than AWS, as `https://minio.example:9000`.",
        ),
        (
            PATHS + "storage: {endpoint_url: https://me:secret@minio}\n",
            "job.yaml:3: storage.endpoint_url: got a URL with what may be a password, expected a text: "
            "Of a store other than AWS, as `https://minio.example:9000`.",
        ),
        (
            PATHS + "workers:\n  count: 2\n  min: 3\n",
            "job.yaml:3: workers: min is 3, but count, which is the most, is 2",
        ),
        (
            PATHS + "storage: {access_key: x}\n",
            "job.yaml:3: storage.access_key: unknown key, expected one of "
            "endpoint_url, region, addressing, checksums, timeout_seconds",
        ),
        (
            "input: s3://\noutput: b\n",
            "job.yaml:1: input: s3://: this is no address of a bucket; expected s3://bucket/prefix",
        ),
        (
            "input: a\noutput: s3://me:secret@bucket/b\n",
            "job.yaml:2: output: s3://…: credentials do not belong into an address; "
            "expected s3://bucket/prefix; "
            "give them in the environment or in ~/.aws, as for every AWS tool",
        ),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == [message]


def test_settings_that_do_not_fit_are_named_beside_other_mistakes(tmp_path: Path) -> None:
    text = (
        "scale: 2\nheight: 720\nvideo:\n  codec: vp9\n  container: mov\n  quality: 99\nengine: {tile_px: 1}\n"
    )
    assert [line.split(" ")[1] for line in mistakes(tmp_path, text)] == [
        "input:",
        "output:",
        "height:",
        "video.container:",
        "video.quality:",
        "engine.tile_px:",
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "job.yaml: the job spec is empty"),
        ("# nothing\n", "job.yaml: the job spec is empty"),
        ("- a\n- b\n", "job.yaml:1: a job spec has keys with values; got a list"),
        ("input: a\n  output: b\n", "job.yaml:2: not valid YAML"),
        ("input: a\nvideo: {codec: [\n", "job.yaml:3: not valid YAML"),
        ("input: a\n---\ninput: b\n", "job.yaml:2: not valid YAML"),
        ("input: \x00\n", "job.yaml: not valid YAML"),
        (b"input: \xff\xfe\n", "job.yaml: the job spec is not UTF-8 text"),
        ("[" * 5000, "job.yaml"),
    ],
)
def test_what_is_no_spec_at_all_is_one_message(tmp_path: Path, text: str | bytes, start: str) -> None:
    lines = mistakes(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(start)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such job spec"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path)


def test_text_that_yaml_takes_for_something_else_stays_text(tmp_path: Path) -> None:
    spec = load(tmp_path, "input: 2024\noutput: 2024-01-02\nmodel: on\nvideo: {codec: av1, preset: 8}\n")
    assert (spec.input, spec.output, spec.model) == ("2024", "2024-01-02", "on")
    assert spec.video.preset == "8"


def test_section_with_all_keys_commented_out_keeps_its_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, PATHS + "video:\n  # codec: av1\n") == load(tmp_path, PATHS)


def test_environment_variables_and_home_are_not_expanded(tmp_path: Path) -> None:
    spec = load(tmp_path, "input: $HOME/in\noutput: ${OUT}\nmodel: ~/m.pth\n")
    assert (spec.input, spec.output, spec.model) == ("$HOME/in", "${OUT}", "~/m.pth")


def test_paths_stay_relative_to_the_current_directory(tmp_path: Path) -> None:
    assert load(tmp_path, PATHS).input == "in"


def test_aliases_that_grow_without_end_are_refused_at_once(tmp_path: Path) -> None:
    levels = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    lines = mistakes(tmp_path, f"{PATHS}video:\n  a0: &a0 [x]\n{levels}  codec: *a39\n")
    assert lines[-1].endswith("got a list, expected one of auto, h264, hevc, av1, vp9, ffv1, prores")


def test_mapping_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "&a\ninput: in\noutput: out\nvideo: *a\n")[-1].startswith("job.yaml:4: video.")


def test_flags_replace_keys_of_the_file_also_wrong_ones(tmp_path: Path) -> None:
    text = PATHS + "scale: 99\nvideo: {codec: h264, preset: slow}\n"
    flags = {"scale": Given("--scale", "3"), "video.codec": Given("--codec", "hevc")}
    spec = load(tmp_path, text, **flags)
    assert (spec.scale, spec.video.codec, spec.video.preset) == (3, "hevc", "slow")


def test_wrong_flags_are_named_by_flag_and_key() -> None:
    flags = {
        "input": Given("IN", "in"),
        "output": Given("OUT", "out"),
        "video.codec": Given("--codec", "matroska"),
        "workers.count": Given("--workers", "many"),
    }
    with pytest.raises(SpecError) as caught:
        spec_from_flags(flags)
    assert str(caught.value).splitlines() == [
        "--codec: video.codec: got 'matroska', expected one of auto, h264, hevc, av1, vp9, ffv1, prores",
        "--workers: workers.count: got 'many', expected an integer from 1 to 10000",
    ]


def test_all_mistakes_survive_pickling(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, "inptu: a\n")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (SpecError, str(caught.value))
