"""What the tab costs: eigenvalue histories of many runs, against the same numbers as stock scalars.

Writes 20 runs of 10,000 steps and 5 eigenvalues twice: as the monitors write them (rows with residuals and flags,
gathered to 64 a block, flushed at each epoch, progress every 100 updates), and as 5 stock scalars a step. TensorBoard
serves both in this process, without sockets, once its data server has loaded them. In turns, the tab's plugin answers
one `series` request for all runs with nothing in its cache, and the stock plugin 5 `scalars_multirun` requests for
all runs. Every answer is complete: 200,000 rows are read in the first case and 1,000,000 points in the second.

    python benchmarks/plugin.py              some minutes on two cores
    python benchmarks/plugin.py --runs 4     a look

After that it opens the page of the tab on these runs in Chromium (`--no-browser` does not), in a browser that has cached
nothing, and prints after how many seconds the first panel is drawn. Target: 3 on two cores.

Times are CPU seconds of the Python process, all threads, and seconds on the clock; the data server's are in the
second only. The last line is the greater of the two ratios, medians over the turns. Target: at most 0.25.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from tensorboard import program
from tensorboard.backend import application
from tensorboard.plugins.core import core_plugin
from tensorboard.plugins.scalar import scalars_plugin
from tensorboard.util.tensor_util import make_tensor_proto
from werkzeug.test import Client

from tb_plugin import loader
from tb_plugin.writer import Writer

K, EPOCH, PROGRESS = 5, 391, 100  # eigenvalues; updates an epoch; updates between two points of progress
SERIES, MULTIRUN = "/data/plugin/lbgap/series", "/data/plugin/scalars/scalars_multirun"


def write(log_dir, runs, steps):
    """Write the runs below `log_dir`/blocks and `log_dir`/scalars; all hold the numbers of the first.

    Returns:
        Seconds for the first run of each.
    """
    values = np.sort(np.random.default_rng(0).gamma(2.0, 10.0, (steps, K)))[:, ::-1]
    seconds = []
    for layout, write_run in (("blocks", write_blocks), ("scalars", write_scalars)):
        start = time.process_time()
        write_run(os.path.join(log_dir, layout, "run", "0"), values)
        seconds.append(time.process_time() - start)
        for i in range(1, runs):
            shutil.copytree(
                os.path.join(log_dir, layout, "run", "0"), os.path.join(log_dir, layout, "run", str(i))
            )
    return seconds


def write_blocks(path, values):
    with Writer(path) as writer:
        for step, row in enumerate(values, 1):
            residuals, converged = 1e-4 * row, np.ones(K)
            writer.eigenvalues(
                "curvature/eigenvalues", row, step, residuals=residuals, converged=converged, mirror=False
            )
            if step % PROGRESS == 0:
                writer.scalar("progress/epochs", step / EPOCH, step)
                writer.scalar("progress/examples", 128 * step, step)
            if step % EPOCH == 0:
                writer.flush()


def write_scalars(path, values):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.scalar import metadata
    from tensorboard.summary.writer.record_writer import RecordWriter

    described = metadata.create_summary_metadata(display_name=None, description="")
    described.data_class = summary_pb2.DATA_CLASS_SCALAR
    os.makedirs(path)
    with open(os.path.join(path, "events.out.tfevents.1760000000.host.1.0"), "wb") as file:
        records = RecordWriter(file)
        records.write(event_pb2.Event(wall_time=1.76e9, file_version="brain.Event:2").SerializeToString())
        for step, row in enumerate(values.astype(np.float32), 1):
            for i, value in enumerate(row, 1):
                event = event_pb2.Event(wall_time=1.76e9 + step, step=step)
                event.summary.value.add(
                    tag=f"eigenvalue_{i}", tensor=make_tensor_proto(value), metadata=described
                )
                records.write(event.SerializeToString())


@contextlib.contextmanager
def fresh_apps(log_dir, steps):
    """Yield a function that returns a client of a new application, nothing cached, over data loaded once."""
    plugins = [core_plugin.CorePluginLoader(), scalars_plugin.ScalarsPlugin, loader.LbgapLoader]
    tensorboard = program.TensorBoard(plugins)
    # Not 0, which stands for all points where they are loaded, but for none where the stock plugin reads them.
    samples = f"--samples_per_plugin=scalars={steps}"
    tensorboard.configure(["", f"--logdir={log_dir}", "--load_fast=true", "--reload_interval=0", samples])
    ingester = tensorboard._make_data_ingester()

    def fresh_app():
        return Client(
            application.TensorBoardWSGIApp(
                tensorboard.flags, tensorboard.plugin_loaders, ingester.data_provider
            )
        )

    try:
        yield fresh_app
    finally:
        ingester._stdin_handle.close()  # ends the data server


def ask_series(client, runs, points=1000):
    """Return the number of rows behind the answer of the tab's plugin, and its size in bytes."""
    body = {"runs": runs, "tags": ["curvature/eigenvalues"], "points": points}
    response = client.post(SERIES, json=body)
    return response.data, lambda: sum(s["num_points"] for s in json.loads(response.data)["series"])


def ask_stock(client, runs):
    """Return the answers of the stock plugin, and a function that counts their points."""
    answers = [
        client.post(MULTIRUN, data={"tag": f"eigenvalue_{i}", "runs": runs}).data for i in range(1, K + 1)
    ]
    return b"".join(answers), lambda: sum(len(s) for answer in answers for s in json.loads(answer).values())


def timed(ask, client, runs):
    """Return CPU seconds, seconds on the clock, bytes, and the function that counts what was read."""
    cpu, wall = time.process_time(), time.perf_counter()
    data, count = ask(client, runs)
    return time.process_time() - cpu, time.perf_counter() - wall, len(data), count


def wait_until_loaded(fresh_app, ask, runs, wanted):
    """Wait until the data server has read everything."""
    start = time.perf_counter()
    while (found := ask(fresh_app(), runs)[1]()) < wanted:
        if time.perf_counter() - start > 600:
            raise RuntimeError(f"After ten minutes the data server has {found:,} of {wanted:,} points.")
        time.sleep(1)


def server_ratios(log_dir, runs, steps, turns):
    """Print the times of each turn and return the two ratios of medians, of CPU time and on the clock."""
    names = [f"{layout}/run/{i}" for layout in ("blocks", "scalars") for i in range(runs)]
    ours, stock = names[:runs], names[runs:]
    with fresh_apps(log_dir, steps) as fresh_app:
        wait_until_loaded(fresh_app, ask_series, ours, runs * steps)
        wait_until_loaded(fresh_app, ask_stock, stock, runs * steps * K)
        rows = []
        for turn in range(turns):
            first, second = timed(ask_series, fresh_app(), ours), timed(ask_stock, fresh_app(), stock)
            assert (first[3](), second[3]()) == (runs * steps, runs * steps * K)
            rows.append((*first[:2], *second[:2]))
            print(
                f"turn {turn}: series {first[0]:.2f} s CPU, {first[1]:.2f} s, {first[2] / 1e6:.1f} MB; "
                f"scalars_multirun {second[0]:.2f} s CPU, {second[1]:.2f} s, {second[2] / 1e6:.1f} MB",
                flush=True,
            )
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    return medians[0] / medians[2], medians[1] / medians[3]


def seconds_to_first_panel(log_dir, openings):
    """Yield the seconds from opening the page to the first panel drawn, each time in a browser that cached nothing."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "plugin"))
    from browser import chromium, tensorboard

    with tensorboard(os.path.join(log_dir, "blocks")) as address, chromium() as browser:
        for _ in range(openings):
            context = browser.new_context(viewport={"width": 1600, "height": 900})
            page = context.new_page()
            start = time.perf_counter()
            page.goto(f"{address}/data/plugin_entry.html?name=lbgap")
            page.wait_for_function("document.querySelector('#plot-sharpness')?.data?.length > 0", polling=50)
            seconds = time.perf_counter() - start
            context.close()  # the other panels of this page would be drawn beside the next opening
            yield seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as log_dir:
        blocks, scalars = write(log_dir, options.runs, options.steps)
        print(f"writing a run: blocks {blocks:.2f} s CPU, stock scalars {scalars:.2f} s CPU", flush=True)
        cpu, wall = server_ratios(log_dir, options.runs, options.steps, options.turns)
        if options.no_browser:
            print("first panel: NOT MEASURED (--no-browser)")
        else:
            opened = list(seconds_to_first_panel(log_dir, options.turns))
            print(f"first panel drawn after {', '.join(f'{seconds:.1f}' for seconds in opened)} s (bar 3)")
    print(f"server time over that of the stock plugin: CPU {cpu:.3f}, clock {wall:.3f}")
    print(f"greater of the two: {max(cpu, wall):.3f}")


if __name__ == "__main__":
    main()
