#!/usr/bin/env python3
"""Times the engine beside its peers on the same DAGs of trivial shell stages, and prints a Markdown table.

    bench-engine.py [--logweir BINARY] [--stages 1000,10000] [--shapes wide,chain,diamond] [--peers ninja,make] [--reps 5]
                    [--most N] [--file GIB] [--folder DIR]

Shapes: wide (N stages, N sources), chain (each stage reads the one before), diamond (left, right, join, and so on). For
each engine: the first run, the median of REPS runs with nothing to do, and (wide) the median of REPS runs after one source
got new contents. `--most N` adds a wide DAG of N stages for logweir and ninja, no-op only. `--file GIB` times a pipeline
that has only to hash one file again (--rehash) beside b3sum. `--peers` may name dvc and snakemake too: they are installed
into .tools/peers from PyPI when missing; a peer slower than a minute per run is left out of the larger sizes and the table
says so. Everything is generated in DIR (a temporary folder by default) and removed.
"""
import argparse
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

JOBS = "2"
ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOW = 60.0


def stages(shape, n):
    """The same list for every engine: (name, inputs, output)."""
    if shape == "wide":
        return [(f"s{i}", [f"src/{i}.txt"], f"out/{i}.txt") for i in range(n)]
    if shape == "chain":
        return [(f"s{i}", ["src/0.txt" if i == 0 else f"out/{i - 1}.txt"], f"out/{i}.txt") for i in range(n)]
    made, before = [], "src/0.txt"
    for i in range(n):
        first = i - i % 3
        inputs = [before] if i % 3 < 2 else [f"out/{first}.txt", f"out/{first + 1}.txt"]
        made.append((f"s{i}", inputs, f"out/{i}.txt"))
        if i % 3 == 2:
            before = f"out/{i}.txt"
    return made


def command(inputs, output):
    # A join keeps the first line, so that sizes stay the same along the DAG.
    one = f"cp {inputs[0]} {output}"
    return one if len(inputs) == 1 else f"head -qn1 {' '.join(inputs)} | head -n1 > {output}"


def generate(engine, shape, n, folder):
    (folder / "src").mkdir(parents=True)
    (folder / "out").mkdir()
    dag = stages(shape, n)
    made = {output for _, _, output in dag}
    used = {path for _, inputs, _ in dag for path in inputs}
    for source in sorted(used - made):
        (folder / source).write_text(f"source {source}\n")
    lines = []
    if engine == "logweir":
        lines = ["version: 1", f"name: {shape}-{n}", "stages:"]
        for name, inputs, output in dag:
            slots = ", ".join(f"i{k}: {path}" for k, path in enumerate(inputs))
            words = [f"${{in.i{k}}}" for k in range(len(inputs))]
            lines += [f"  {name}:", f'    run: "{command(words, "${out.o}")}"', f"    in: {{ {slots} }}", f"    out: {{ o: {output} }}"]
        (folder / "pipeline.yaml").write_text("\n".join(lines) + "\n")
    elif engine == "ninja":
        lines = ["rule r", "  command = $c", ""]
        for _, inputs, output in dag:
            lines += [f"build {output}: r {' '.join(inputs)}", f"  c = {command(inputs, output)}"]
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    elif engine == "make":
        leaves = [output for _, _, output in dag if output not in used]
        lines = [".SUFFIXES:", "MAKEFLAGS += -rR", "all: " + " ".join(leaves), ".PHONY: all", ""]
        for _, inputs, output in dag:
            lines += [f"{output}: {' '.join(inputs)}", f"\t@{command(inputs, output)}"]
        (folder / "Makefile").write_text("\n".join(lines) + "\n")
    elif engine == "dvc":
        lines = ["stages:"]
        for name, inputs, output in dag:
            lines += [f"  {name}:", f"    cmd: {command(inputs, output)}", "    deps:"]
            lines += [f"    - {path}" for path in inputs] + ["    outs:", f"    - {output}"]
        (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
        for step in (["git", "init", "-q"], [peer("dvc"), "init", "-q"], [peer("dvc"), "config", "core.analytics", "false"]):
            subprocess.check_call(step, cwd=folder)
    elif engine == "snakemake":
        import json
        leaves = [output[4:-4] for _, _, output in dag if output not in used]
        (folder / "inputs.json").write_text(json.dumps({output[4:-4]: inputs for _, inputs, output in dag}))
        (folder / "Snakefile").write_text(
            "import json\nI = json.load(open('inputs.json'))\n"
            f"rule all:\n    input: expand('out/{{i}}.txt', i={leaves!r})\n"
            "rule s:\n    input: lambda w: I[w.i]\n    output: 'out/{i}.txt'\n"
            "    shell: 'head -qn1 {input} | head -n1 > {output}'\n")


def peer(name):
    return str(ROOT / ".tools/peers" / name / "bin" / name)


def install(name):
    """Makes sure that a peer is there."""
    if name in ("dvc", "snakemake"):
        if not os.path.exists(peer(name)):
            home = ROOT / ".tools/peers" / name
            subprocess.check_call([sys.executable, "-m", "venv", str(home)])
            subprocess.check_call([str(home / "bin/pip"), "install", "-q", "--disable-pip-version-check", name])
    elif shutil.which(name) is None:
        package = {"ninja": "ninja-build"}.get(name, name)
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.call(as_root + ["apt-get", "install", "-y", "-q", package], stdout=subprocess.DEVNULL)
        if shutil.which(name) is None:
            sys.exit(f"{name} is not installed and cannot be; leave it out by --peers")


def call(engine, logweir):
    return {
        "logweir": [logweir, "run", "-j", JOBS, "-q"],
        "ninja": ["ninja", "-j", JOBS, "--quiet"],
        "make": ["make", "-s", "-j", JOBS],
        "dvc": [peer("dvc"), "repro", "-q"],
        "snakemake": [peer("snakemake"), "-c", JOBS, "-q", "all"],
    }[engine]


def timed(words, folder, log):
    """Runs a command: wall seconds, CPU seconds, peak resident memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        log.flush()
        sys.exit(f"failed in {folder}: {' '.join(words)}\n{pathlib.Path(log.name).read_text(errors='replace')[-2000:]}")
    scale = 1 if sys.platform == "darwin" else 1024
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6


def rows_of(engines, shape, n, options, noop_only=False):
    """First runs one engine after the other, then the short ones in turns, so that all see the same machine."""
    places, first, noop, edits = {}, {}, {}, {}
    for engine in engines:
        places[engine] = options.folder / f"{engine}-{shape}-{n}"
        generate(engine, shape, n, places[engine])
    logs = {engine: open(places[engine] / "bench.log", "w") for engine in engines}
    words = {engine: call(engine, options.logweir) for engine in engines}
    for engine in engines:
        first[engine] = timed(words[engine], places[engine], logs[engine])
    # Files written within two seconds of being looked at are hashed once more by whoever looks at contents.
    time.sleep(2.5)
    for engine in engines:
        timed(words[engine], places[engine], logs[engine])
    for _ in range(options.reps):
        for engine in engines:
            noop.setdefault(engine, []).append(timed(words[engine], places[engine], logs[engine]))
    for turn in range(options.reps if shape == "wide" and not noop_only else 0):
        for engine in engines:
            (places[engine] / f"src/{n // 2}.txt").write_text(f"changed {turn} {time.time_ns()}\n")
            edits.setdefault(engine, []).append(timed(words[engine], places[engine], logs[engine]))
            same = [(places[engine] / f"{folder}/{n // 2}.txt").read_text() for folder in ("src", "out")]
            assert same[0] == same[1], f"{engine} did not rebuild the edited file"
    for engine in engines:
        middle = [statistics.median(run[part] for run in noop[engine]) for part in range(3)]
        edit = statistics.median(run[0] for run in edits[engine]) if engine in edits else None
        yield engine, first[engine], middle, edit
        logs[engine].close()
        shutil.rmtree(places[engine])


def table(options):
    print("| stages | engine | first run, s | of ninja's | nothing to do, s | of ninja's | its CPU, s | its memory, MB | one edit, s | of ninja's |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    slow = {}
    plans = [(shape, n, False) for n in options.stages for shape in options.shapes]
    if options.most:
        plans.append(("wide", options.most, True))
    for shape, n, noop_only in plans:
        peers = [name for name in options.peers if not (noop_only and name != "ninja")]
        left = [name for name in peers if slow.get(name, 0) * n > SLOW]
        engines = ["logweir"] + [name for name in peers if name not in left]
        rows = list(rows_of(engines, shape, n, options, noop_only))
        base = next((row for row in rows if row[0] == "ninja"), None)
        for engine, first, noop, edit in rows:
            if first[0] > SLOW / 4:
                slow[engine] = first[0] / n
            ratio = lambda mine, theirs: f"{mine / theirs:.2f}" if base and theirs else ""
            shown = [f"{n} {shape}", engine, f"{first[0]:.2f}", ratio(first[0], base and base[1][0]), f"{noop[0]:.3f}",
                     ratio(noop[0], base and base[2][0]), f"{noop[1]:.3f}", f"{noop[2]:.0f}",
                     f"{edit:.3f}" if edit else "", ratio(edit, base and base[3]) if edit else ""]
            print("| " + " | ".join(shown) + " |", flush=True)
        for name in left:
            print(f"| {n} {shape} | {name} | left out: too slow at the size before | | | | | | | |", flush=True)


def big_file(options):
    """A pipeline whose only work is to hash a large input again, beside b3sum."""
    install("b3sum")
    folder = options.folder / "file"
    (folder / "src").mkdir(parents=True)
    with open(folder / "src/big", "wb") as out:
        block = os.urandom(1 << 20)
        for number in range(int(options.file * 1024)):
            out.write(number.to_bytes(8, "little") + block[8:])
    (folder / "pipeline.yaml").write_text(
        "version: 1\nname: file\nstages:\n  s: { run: 'wc -c < ${in.i} > ${out.o}', in: { i: src/big }, out: { o: out/size } }\n")
    log = open(folder / "bench.log", "w")
    timed([options.logweir, "run", "-q"], folder, log)
    ours, theirs = [], []
    for _ in range(max(options.reps, 5)):
        theirs.append(timed(["b3sum", "src/big"], folder, log)[0])
        ours.append(timed([options.logweir, "run", "-q", "--rehash"], folder, log)[0])
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"\nHashing one input of {options.file:g} GiB again: {ours:.3f} s; b3sum {theirs:.3f} s; ratio {ours / theirs:.2f}", flush=True)
    log.close()


def numbers(text):
    return [int(word) for word in text.split(",") if word]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logweir", default=None)
    parser.add_argument("--stages", type=numbers, default=[1000, 10000])
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["wide", "chain", "diamond"])
    parser.add_argument("--peers", type=lambda text: [word for word in text.split(",") if word], default=["ninja", "make"])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--file", type=float, default=0)
    parser.add_argument("--folder", type=pathlib.Path, default=None)
    options = parser.parse_args()
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    options.logweir = os.path.realpath(options.logweir or f"{target}/release/logweir")
    if not os.path.exists(options.logweir):
        sys.exit(f"{options.logweir} is not there: make build")
    for name in options.peers:
        install(name)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = pathlib.Path(folder)
        print(f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, -j {JOBS}, "
              f"load {os.getloadavg()[0]:.1f}; medians of {options.reps}\n")
        table(options)
        if options.file:
            big_file(options)


if __name__ == "__main__":
    main()
