#!/usr/bin/env python3
"""Times raw log to sessions; see bench-parse.sh."""
import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time

PREFIX = 200_000
HEAD = re.compile(r"^(?P<date>\d+) (?P<time>\d+) (?P<pid>\d+) (?P<level>\w+) (?P<component>[^:]*): (?P<content>.*)$")
BLOCK = re.compile(r"blk_-?\d+")


def timed(command, env=None, repeat=1):
    """Best wall seconds, peak anonymous megabytes and output of a command."""
    best, peak, out = None, 0, ""
    for _ in range(repeat):
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        seen, done = [0], threading.Event()

        def watch(pid=process.pid, seen=seen, done=done):
            while not done.wait(0.005):
                try:
                    text = pathlib.Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    return
                found = re.search(r"RssAnon:\s+(\d+)", text)
                seen[0] = max(seen[0], int(found[1]) if found else 0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        out = process.communicate()[0]
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(map(str, command))}\n{out}")
        if best is None or seconds < best:
            best = seconds
        peak = max(peak, seen[0] / 1024)
    return best, peak, out


def sessions_by_regex(lines, templates):
    """The usual parse in Python: head, template and blocks by regular expressions."""
    sessions = {}
    for number, line in enumerate(lines):
        head = HEAD.match(line)
        if not head:
            continue
        content = head["content"]
        event = next((i for i, t in enumerate(templates) if t.match(content)), None)
        for block in dict.fromkeys(BLOCK.findall(content)):
            sessions.setdefault(block, []).append((head["date"] + head["time"], event, number))
    return sessions


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--logweir", required=True)
    options.add_argument("--work", type=pathlib.Path, required=True)
    options.add_argument("--drain", default="")
    args = options.parse_args()
    log = args.work / "raw/HDFS.log"
    project = args.work / "project"
    size = log.stat().st_size
    lines = int(subprocess.check_output(["wc", "-l", log]).split()[0])
    print(f"{lines:,} lines, {size / 1e6:,.0f} MB; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | threads | s | lines/s a core | of grep's | peak RssAnon, MB |")
    print("|---|---|---|---|---|---|")
    grep, _, _ = timed(["grep", "-c", "blk_", log], {**os.environ, "LC_ALL": "C"}, 3)

    def row(what, threads, seconds, peak=None, cores=None):
        rate = f"{lines / seconds / (cores or 1):,.0f}"
        memory = "" if peak is None else f"{peak:,.0f}"
        print(f"| {what} | {threads} | {seconds:.2f} | {rate} | {seconds / grep:.1f} | {memory} |", flush=True)

    row("wc -l", 1, timed(["wc", "-l", log], None, 3)[0])
    row("grep -c blk_", 1, grep)
    if shutil.which("b3sum"):
        row("b3sum", 1, timed(["b3sum", "--num-threads", "1", log], None, 3)[0])
    else:
        print("| b3sum is not there | | | | | |")

    ours = {}
    env = {k: v for k, v in os.environ.items() if k != "LOGWEIR_POSTGRES"}
    env["LOGWEIR_HDFS"] = str(log.parent)
    for threads in [1, 2]:
        best = None
        for _ in range(3):
            for name in ["cache", "data", "reports", "pipeline.lock"]:
                path = project / name
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True) if path.is_file() else None
            command = [args.logweir, "-C", project, "run", "sessionize", "--json", "-j", str(threads)]
            wall, peak, out = timed(command, env)
            events = [json.loads(line) for line in out.splitlines()]
            ended = [e for e in events if e["event"] == "stage_finished"]
            stages = {e["stage"]: e["seconds"] - e["storing"] for e in ended}
            made = (wall, peak, sum(stages.values()), sum(e["seconds"] for e in ended), stages)
            best = made if best is None or made[0] < best[0] else best
        wall, peak, own, stored, by_stage = best
        ours[threads] = own
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in by_stage.items())
        row(f"raw to sessions, written as Parquet ({told})", threads, own, peak, threads)
        row("the same, results hashed, stored and put in place", threads, stored, peak, threads)
        row("the whole command: log hashed too, all synced", threads, wall, peak, threads)
    written = [p for p in (project / "data").rglob("*.parquet")]
    print(f"\nParquet written: {sum(p.stat().st_size for p in written) / 1e6:,.1f} MB", end="")
    started = time.perf_counter()
    for path in written:
        data = path.read_bytes()
        with open(args.work / "copy", "wb") as copy:
            copy.write(data)
            copy.flush()
            os.fsync(copy.fileno())
    print(f" (copied and synced in {time.perf_counter() - started:.2f} s); two threads take {ours[2] / grep:.1f} of grep's time\n")

    with open(log, encoding="utf-8") as file:
        prefix = [next(file, "").rstrip("\n") for _ in range(min(PREFIX, lines))]
    scale = lines / len(prefix)
    with open(project / "data/processed/templates.csv", encoding="utf-8") as file:
        texts = [t["text"] for t in csv.DictReader(file)]
    gap = re.compile(r"\\?<(?:[a-z_]+|\\?\*)\\?>")
    templates = [re.compile("^" + gap.sub(".*?", re.escape(t)).replace(r"\ ", r"\s+") + "$") for t in texts]
    print(f"In Python, the first {len(prefix):,} lines, scaled by {scale:.1f}:\n")
    shared = pathlib.Path(os.environ.get("LOGWEIR_SHARED", "../shared")) / "data/hdfs/HDFS.log_templates.csv"
    loghub = []
    if shared.is_file():
        with open(shared, encoding="utf-8") as file:
            gaps = [re.split(r"\[\*\]|<\*>", t["EventTemplate"]) for t in csv.DictReader(file)]
        loghub = [re.compile("^" + ".*".join(map(re.escape, g)) + "$") for g in gaps]
    print("| approach | s, scaled | lines/s | logweir, one thread, is faster by |")
    print("|---|---|---|---|")
    for told, patterns in [("mined here", templates), ("of loghub", loghub)]:
        if not patterns:
            print(f"| regular expressions {told}: {shared} is not there | | | |")
            continue
        started = time.perf_counter()
        sessions_by_regex(prefix, patterns)
        seconds = (time.perf_counter() - started) * scale
        told = f"regular expressions of {len(patterns)} templates {told}"
        print(f"| {told} | {seconds:.1f} | {lines / seconds:,.0f} | {seconds / ours[1]:.0f} |", flush=True)
    if not args.drain:
        print("| Drain3 is not there | | | |")
        return
    code = """
import re, sys, time
from importlib.metadata import version
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig
head = re.compile(sys.argv[2])
block = re.compile(r"blk_-?\\d+")
with open(sys.argv[1], encoding="utf-8") as file:
    lines = [next(file, "").rstrip("\\n") for _ in range(int(sys.argv[3]))]
config = TemplateMinerConfig()
if sys.argv[4] == "masks":
    # Those of Drain3's own example.
    around = r"((?<=[^A-Za-z0-9])|^)(%s)((?=[^A-Za-z0-9])|$)"
    masks = [(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", "IP"), (r"blk_-?\d+", "ID"), (r"0x[a-f0-9A-F]+", "HEX"), (r"[\-\+]?\d+", "NUM")]
    config.masking_instructions = [MaskingInstruction(around % regex, name) for regex, name in masks]
miner, sessions = TemplateMiner(config=config), {}
started = time.perf_counter()
for number, line in enumerate(lines):
    m = head.match(line)
    if not m:
        continue
    event = miner.add_log_message(m["content"])["cluster_id"]
    for key in dict.fromkeys(block.findall(m["content"])):
        sessions.setdefault(key, []).append((m["date"] + m["time"], event, number))
print(time.perf_counter() - started, version("drain3"))
"""
    for how in ["plain", "masks"]:
        command = [args.drain, "-c", code, log, HEAD.pattern, str(len(prefix)), how]
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        seconds, version = said.split()[-2:]
        seconds = float(seconds) * scale
        told = "nothing masked" if how == "plain" else "numbers, blocks and addresses masked, as in its example"
        print(f"| Drain3 {version}, {told} | {seconds:.1f} | {lines / seconds:,.0f} | {seconds / ours[1]:.0f} |", flush=True)


main()
