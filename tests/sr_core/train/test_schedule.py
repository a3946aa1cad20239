import pytest

from sr_core.errors import SpecError
from sr_core.train.schedule import Course, Schedule


def test_a_cosine_goes_from_one_to_its_last_share() -> None:
    schedule = Schedule(Course.COSINE, last=0.1)

    assert schedule.share_at(0, 1000) == 1.0
    assert schedule.share_at(500, 1000) == pytest.approx(0.55)
    assert schedule.share_at(1000, 1000) == pytest.approx(0.1)


def test_a_warm_up_grows_linearly_and_the_rest_follows_it() -> None:
    schedule = Schedule(Course.COSINE, warm_up_images=100, last=0.0)

    assert [schedule.share_at(images, 1100) for images in (0, 50, 100)] == [0.0, 0.5, 1.0]
    assert schedule.share_at(600, 1100) == pytest.approx(0.5)


def test_steps_go_down_at_their_milestones() -> None:
    schedule = Schedule(Course.STEPS, milestones=(0.5, 0.8), step=0.1)

    assert [schedule.share_at(images, 10) for images in (4, 5, 7, 8, 10)] == pytest.approx(
        [1, 0.1, 0.1, 0.01, 0.01]
    )


@pytest.mark.parametrize(
    "wrong", [{"warm_up_images": -1}, {"last": 2.0}, {"milestones": (0.8, 0.5)}, {"milestones": (0.0,)}]
)
def test_what_makes_no_sense_is_a_spec_error(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Schedule(**wrong)  # type: ignore[arg-type]


def test_a_stage_that_is_shorter_than_its_warm_up_is_refused() -> None:
    schedule = Schedule(warm_up_images=100)
    schedule.check_length(100)

    with pytest.raises(SpecError, match=r"schedule\.warm_up_images: .*got 100 images; expected 99 at most"):
        schedule.check_length(99)
