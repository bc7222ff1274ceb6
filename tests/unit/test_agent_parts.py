"""The small parts: gates, backoff, timers, the outbox's way, trials in a child process, what is imported."""

import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from agent_world import report, wait_until

from edgewright.contracts.benchmark import LatencySketch
from edgewright.contracts.errors import DeviceError
from edgewright.contracts.ids import ExecutionId
from edgewright.contracts.messages import Policy
from edgewright.contracts.topics import Channel
from edgewright.contracts.wire import encode
from edgewright.edge_agent.backoff import Backoff
from edgewright.edge_agent.gates import exceeded_gates, quantile
from edgewright.edge_agent.outgoing import Outgoing
from edgewright.edge_agent.state import OutMessage
from edgewright.edge_agent.timers import Timers
from edgewright.edge_agent.transport import Delivered
from edgewright.edge_agent.trials import ChildTrials
from edgewright.edge_agent.worker import Abort, Aborted, Worker


def test_a_quantile_is_within_the_sketch_accuracy():
    accuracy, values = 0.01, [100 + 7 * i for i in range(1000)]
    gamma = (1 + accuracy) / (1 - accuracy)
    buckets = {}
    for value in values:
        index = math.ceil(math.log(value, gamma))
        buckets[index] = buckets.get(index, 0) + 1
    sketch = LatencySketch(relative_accuracy=accuracy, buckets=buckets)
    for q in (0.0, 0.5, 0.95, 1.0):
        assert quantile(sketch, q) == pytest.approx(values[int(q * 999)], rel=accuracy * 1.001)


def test_a_benchmark_without_samples_passes_no_latency_limit():
    empty = LatencySketch(relative_accuracy=0.01, buckets={})
    nothing = report()
    object.__setattr__(nothing, "sketch", empty)
    assert [gate.reason for gate in exceeded_gates(Policy(max_p95_us=1e9), nothing)] == ["gate-max-p95"]


def test_waits_grow_to_the_cap_and_start_from_zero():
    low, high = (Backoff(base_s=1, cap_s=60, uniform=pick) for pick in (min, max))
    assert [high.delay_s(tries) for tries in (0, 1, 5, 6, 10**6)] == [1, 2, 32, 60, 60]
    assert low.delay_s(9) == 0


def test_timers_do_what_is_due_in_order_and_can_be_moved_and_cancelled():
    now, done = [0.0], []
    timers = Timers(lambda: now[0])
    for name, delay in (("b", 2), ("a", 1), ("moved", 1), ("cancelled", 1)):
        timers.set(name, delay, lambda name=name: done.append(name))
    timers.set("moved", 9, lambda: done.append("moved"))
    timers.cancel("cancelled")
    assert timers.next_s() == 1
    now[0] = 5
    timers.run_due()
    assert done == ["a", "b"]
    assert timers.next_s() == 4


def test_timers_survive_a_delay_of_centuries():
    timers = Timers(lambda: 0.0)
    timers.set("far", 1e300, lambda: None)
    assert timers.next_s() <= threading.TIMEOUT_MAX


class FakeLink:
    def __init__(self):
        self.sent = []
        self.up = True

    def start(self, put):
        pass

    def publish(self, channel, execution, payload):
        if not self.up:
            return None
        self.sent.append(payload.decode())
        return len(self.sent)

    def stop(self):
        pass


def box(*ids):
    return tuple(OutMessage(id=i, channel=Channel.EXECUTION, execution=ExecutionId("e"), payload=f"{i}") for i in ids)


def test_a_message_is_sent_once_a_connection_and_again_on_the_next():
    link = FakeLink()
    outgoing = Outgoing(link)
    outgoing.send(box(1))
    assert link.sent == []
    outgoing.connected("s1")
    outgoing.send(box(1, 2))
    outgoing.send(box(1, 2, 3))
    assert link.sent == ["1", "2", "3"]
    outgoing.disconnected("s1")
    outgoing.connected("s2")
    outgoing.send(box(2, 3))
    assert link.sent[3:] == ["2", "3"]


def test_only_an_answer_of_this_connection_that_somebody_took_counts():
    outgoing = Outgoing(FakeLink())
    outgoing.connected("s2")
    outgoing.send(box(7))
    assert outgoing.delivered(Delivered("s1", 1, taken=True)) is None
    assert outgoing.delivered(Delivered("s2", 99, taken=True)) is None
    assert outgoing.delivered(Delivered("s2", 1, taken=False)) is None
    outgoing.again(box(7))
    assert outgoing.delivered(Delivered("s2", 2, taken=True)) == 7


def test_what_follows_a_message_that_nobody_took_waits_for_it():
    link = FakeLink()
    outgoing = Outgoing(link)
    outgoing.connected("s")
    outgoing.send(box(1))
    outgoing.delivered(Delivered("s", 1, taken=False))
    outgoing.send(box(1, 2))
    assert link.sent == ["1"]
    outgoing.again(box(1, 2))
    assert link.sent == ["1", "1", "2"]


def test_a_worker_does_jobs_in_order_and_skips_those_that_were_aborted():
    worker, done, begun = Worker("w"), [], threading.Event()

    def long(abort):
        begun.set()
        abort.wait(60)

    worker.submit("old", long)
    worker.submit("old", lambda _: done.append("never"))
    worker.submit("new", lambda _: done.append("new"))
    assert begun.wait(5)
    worker.abort("old")
    last = threading.Event()
    worker.submit("new", lambda _: last.set())
    assert last.wait(5)
    assert done == ["new"]
    worker.close(5)


def child(code, **fields):
    return ChildTrials(seconds=0.1, command=(sys.executable, "-S", "-c", code), **fields)


def test_a_trial_reads_the_answer_of_its_child():
    verdict = '{"passed":true,"samples":2,"max_abs_error":null,"min_cosine":0.5,"detail":"d"}'
    assert child(f"print('{verdict}')").probe(Path("x"), Abort()).min_cosine == 0.5
    answer = encode(report()).decode()
    assert child(f"print('{answer}')").benchmark(Path("x"), None, Abort()) == report()


def test_a_trial_is_told_what_to_try():
    seen = "import sys; sys.exit(' '.join(sys.argv[1:]))"
    with pytest.raises(DeviceError) as caught:
        child(seen).benchmark(Path("/slots/b"), Path("/slots/a"), Abort())
    assert "benchmark /slots/b --seconds 0.1 --against /slots/a" in caught.value.found


@pytest.mark.parametrize(
    ("code", "error", "found"),
    [
        ("import os; os.abort()", "artifact-crashed", "signal 6"),
        ("raise SystemExit('no such runtime')", "artifact-crashed", "exit status 1: no such runtime"),
        ('print(\'{"error":{"code":"runtime-missing","what":"w"}}\'); raise SystemExit(6)', "runtime-missing", None),
    ],
)
def test_how_a_trial_died_is_said(code, error, found):
    with pytest.raises(DeviceError) as caught:
        child(code).probe(Path("x"), Abort())
    assert (caught.value.code, caught.value.found) == (error, found)


HANGS = """
import os, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(99)"])
with open({path!r} + ".new", "w") as file:
    file.write(str(other.pid))
os.rename({path!r} + ".new", {path!r})
time.sleep(99)
"""


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


def test_a_trial_that_is_aborted_ends_with_all_its_processes(tmp_path):
    pid, abort = tmp_path / "pid", Abort()

    def stop_once_it_runs():
        while not pid.exists():
            time.sleep(0.01)
        abort.set()

    thread = threading.Thread(target=stop_once_it_runs)
    thread.start()
    with pytest.raises(Aborted):
        child(HANGS.format(path=str(pid))).probe(Path("x"), abort)
    thread.join()
    wait_until(lambda: gone(int(pid.read_text())))


def test_a_trial_does_not_outlive_an_agent_that_is_killed(tmp_path):
    # Stands for the measurement: it says who it is, and then hangs as one that waits for its worker does.
    hangs = (
        "import os, pathlib, time; from edgewright.measurement import __main__ as trial\n"
        f"trial._trial = lambda _: (pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(), time.sleep(99))\n"
        "trial.main()"
    )
    agent = (
        "import sys; from pathlib import Path; from edgewright.edge_agent.trials import ChildTrials\n"
        "from edgewright.edge_agent.worker import Abort\n"
        f"ChildTrials(seconds=0.1, command=(sys.executable, '-c', {hangs!r})).probe(Path('x'), Abort())"
    )
    with subprocess.Popen([sys.executable, "-c", agent]) as process:
        wait_until(lambda: list(tmp_path.iterdir()))
        process.kill()
    (trial,) = tmp_path.iterdir()
    wait_until(lambda: gone(int(trial.name)))


def test_a_trial_that_hangs_is_ended():
    with pytest.raises(DeviceError) as caught:
        child("import time; time.sleep(99)", timeout_s=0.1).probe(Path("x"), Abort())
    assert caught.value.code == "artifact-timeout"


def test_the_agent_imports_nothing_heavy():
    heavy = "torch onnx fastapi boto3 sqlalchemy numpy psutil openvino ai_edge_litert httpx rich".split()
    code = f"import sys, edgewright.edge_agent.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
