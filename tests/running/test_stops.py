"""Stop requests that come where LLVM has called back into Python."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A script whose stop request arrives exactly while LLVM hands over a compiled function.
SCRIPT = """
    import os, signal, sys
    from llvmlite.binding import ExecutionEngine
    from cloudsom.running.compiling import compiled
    from cloudsom.running.settings import run

    handed_over = ExecutionEngine._raw_object_cache_notify

    def asked_to_stop(self, data):
        os.kill(os.getpid(), signal.{name})
        handed_over(self, data)
        print("handed over")

    def main():
        import ctypes
        from llvmlite.binding import executionengine
        executionengine._notify_c_hook = executionengine._ObjectCacheNotifyFunc(asked_to_stop)
        try:
            print(compiled(lambda x: x + 1)(1))
            while True:
                signal.pause()
        finally:
            print("cleared up")

    run(main, globals())
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_request_waits_while_llvm_is_at_work(tmp_path: Path, name: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(name=name)))
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    words = [sys.executable, str(script)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done
    assert done.stdout.split("\n")[0] == "handed over"
    assert done.stdout.endswith("cleared up\n")
    assert done.stderr == "script.py: stopped; what was finished is kept, run the same command to go on\n"


@pytest.mark.parametrize("script", ["labeling.py", "visualization/report.py", "-m cloudsom.images.safe_to_tiff"])
def test_ctrl_c_while_a_script_imports_is_one_line(tmp_path: Path, script: str) -> None:
    (tmp_path / "numpy.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)")
    words = [sys.executable, *script.split()]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    name = f"{script.rpartition('.')[2]}.py" if script.startswith("-m") else Path(script).name
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{name}: stopped\n")
