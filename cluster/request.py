"""A job on its inputs, as one run is asked for it, and which of them need work. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.inputs import InputSet
from cluster.job import Job
from cluster.manifest import Survey
from cluster.plan import Input, JobPlan, output_key
from cluster.retry import RetryPolicy
from sr_core.errors import SpecError


@dataclass(frozen=True)
class Request:
    """A job on its inputs, as one run is asked for it.

    Attributes:
        overwrite: Outputs that were made in another way may be replaced.
        again: Tasks that were set aside in earlier runs are tried again.
    """

    job: Job
    retry: RetryPolicy
    overwrite: bool = False
    again: bool = False


def sort_out(
    request: Request, inputs: InputSet, survey: Survey, plan: JobPlan | None
) -> tuple[list[Input], dict[Input, str]]:
    """The inputs that need work, and those that are finished with their output keys.

    Args:
        plan: That the first driver of the job fixed; None where there was none.

    Raises:
        SpecError: Outputs stand there that were made in another way, and may not be replaced.
    """
    keys = {input_: output_key(plan, input_) if plan else "" for input_ in inputs.inputs}
    finished = {
        input_: key
        for input_, key in keys.items()
        if key in survey.finished and input_.output_name in survey.outputs
    }
    unfinished = [input_ for input_ in keys if input_ not in finished]
    new = [input_ for input_ in unfinished if keys[input_] not in survey.planned]
    taken = [input_.output_name for input_ in new if input_.output_name in survey.outputs]
    if taken and not request.overwrite:
        raise SpecError(
            f"{len(taken)} outputs exist already that were not made from these sources with this spec",
            where=inputs.output_url,
            got=", ".join(taken[:5]) + (", ..." if len(taken) > 5 else ""),
            expected=f"outputs of this spec, whose model is {request.job.model.name}",
            next_step="choose another output folder, name the model that they were made with, "
            "or --overwrite to replace them",
        )
    return unfinished, finished
