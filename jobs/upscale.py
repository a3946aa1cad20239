"""`framelift upscale`, also as `python -m jobs.upscale job.yaml`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from cluster.driver import Driver
from cluster.inputs import InputSet, find_inputs
from cluster.machines import WorkerRequest
from cluster.pool import WorkerPool
from cluster.report import JobReport, Snapshot
from cluster.request import Request
from cluster.sight import Sight
from cluster.storage import open_storage
from cluster.storage.address import join_url
from cluster.weights import shared_weights
from jobs.models import choose_model, find_model, with_model
from jobs.spec import UpscaleSpec
from jobs.view import console, printable, progress_view, show_summary
from jobs.which_ray import close_off_local_ray, cluster_address


def upscale(spec: UpscaleSpec) -> int:
    """Upscales what `spec` asks for, and shows how far it is and how it went.

    Returns:
        The exit code.

    Raises:
        FrameliftError: Nothing ran, or the store or the workers ended it all.
    """
    inputs = find_inputs(spec.input_url, spec.output_url, spec.video, spec.image, spec.sequences)
    choice = choose_model(spec)
    request = request_of(with_model(spec, choice))
    print(printable(str(choice)), file=sys.stderr, flush=True)
    if cluster_address() is not None:
        model = shared_weights(request.job.model, inputs.output_url)
        request = replace(request, job=replace(request.job, model=model))
    with progress_view() as view:
        report = _run(request, inputs, spec.workers, view.update)
    show_summary(report, str(choice), join_url(inputs.output_url, inputs.report_key), console())
    return report.exit_code


def request_of(spec: UpscaleSpec) -> Request:
    """What `spec` asks of the cluster, with the model that it names found and checked."""
    return Request(
        job=spec.job(find_model(spec.model_url, spec.scale, spec.blend_with)),
        retry=spec.retries,
        overwrite=spec.overwrite,
        again=spec.retries.again,
    )


def _run(
    request: Request, inputs: InputSet, workers: WorkerRequest, on_snapshot: Callable[[Snapshot], None]
) -> JobReport:
    """The one call into the cluster."""

    def make_pool(sights: Sequence[Sight]) -> WorkerPool:
        address = cluster_address()
        if address is None:
            close_off_local_ray()
        from cluster.actor import open_pool  # loading Ray takes a second, which only work is worth

        pool = open_pool(workers, address, sights)
        signal.signal(signal.SIGTERM, _interrupt)  # which Ray took for itself
        return pool

    return Driver(request, inputs, open_storage(inputs.output_url), make_pool, on_snapshot).run()


def _interrupt(signal_number: int, frame: object) -> None:
    """Ends the run as Ctrl-C does: in order, with its state kept."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    from jobs.cli import main

    main(["upscale", *sys.argv[1:]])
