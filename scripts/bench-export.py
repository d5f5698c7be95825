#!/usr/bin/env python3
"""Times the stage `export` on PostgreSQL beside `psql \\copy` of the same rows, and every panel of the dashboards on what was loaded.

    scripts/bench-export.py --logweir PROGRAM [--sessions 575061] [--rounds 3] [--project FOLDER] [--dsn LIBPQ]

The sessions are those of a simulated log through the shipped pipeline, in FOLDER (kept when it is named: a second call then only
exports). The server is a throwaway one of scripts/pg-up.sh, or that of --dsn, whose schemas `bench_export` and `bench_copy` are
dropped. Each round exports into an empty schema, then copies the same rows with psql, so that all are measured under the same
conditions; the table shows the median and the least time. Needs psql. Exit 1 if the export takes more than 1.25 times as long as
\\copy of the rows of sessions into a table that has its primary key, or a panel more than 200 ms.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = (
    "alerts alert_lines metrics score_minutes score_hours lineage lineage_actions lineage_edges templates signatures drift "
    "drift_measures drift_templates runs"
).split()


def psql(dsn, *arguments, stdin=None):
    command = ["psql", dsn, "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench-export: psql: {done.stderr.strip()}")
    return done.stdout


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def scored(program, project, sessions):
    """Brings the project to where only the export is missing."""
    (project / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    arguments = [program, "-C", project, "--profile", "demo", "--set", f"stages.simulate.with.sessions={sessions}"]
    everything = ["reports/metrics.json", "reports/ensemble_sessions.csv", "data/processed/alerts.parquet", "reports/drift.json"]
    subprocess.run([*arguments, "run", "-q", *everything], check=True)
    return arguments


def export(arguments, dsn):
    """Runs the stage; returns its seconds, as the run tells them."""
    command = [*arguments, "--set", "stages.export.with.schema=bench_export", "run", "export", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LOGWEIR_POSTGRES": dsn})
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if event.get("event") == "stage_finished" and event.get("stage") == "export":
            return event["seconds"]
    sys.exit(f"bench-export: the export failed:\n{done.stdout}{done.stderr}")


# What Grafana makes of macros.
def seconds(text):
    number, unit = re.fullmatch(r"'?(\d+)(ms|[smhdw])'?", text.strip()).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]


def expand(sql, variables, start, end):
    iso = [datetime.datetime.fromtimestamp(t, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") for t in (start, end)]
    sql = re.sub(r"\$\{(\w+):singlequote\}", lambda m: ",".join("'" + v.replace("'", "''") + "'" for v in variables[m[1]]), sql)
    sql = re.sub(r"\$__timeFilter\(([^()]*(?:\([^()]*\))?)\)", lambda m: f"{m[1]} BETWEEN '{iso[0]}' AND '{iso[1]}'", sql)
    sql = sql.replace("$__unixEpochFrom()", str(start)).replace("$__unixEpochTo()", str(end))

    def group(match):
        step = f"{seconds(match[2]):g}"
        return f'floor(extract(epoch from {match[1]})/{step})*{step} AS "time"'

    sql = re.sub(r"\$__timeGroupAlias\(([^,()]+),([^()]+)\)", group, sql)
    assert "$" not in sql, sql
    return sql


def panels(dsn):
    """Milliseconds of every query of every panel, each the median of five, slowest first."""
    path = "SET search_path TO bench_export;"
    ask = lambda sql: [line for line in psql(dsn, "-At", "-c", path + sql).splitlines() if line]
    run = ask("SELECT action_key FROM runs WHERE is_current = 1")
    session = ask("SELECT session_id FROM current_alerts ORDER BY fusion_score DESC, session_id LIMIT 1")
    start, end = (int(t) for t in ask(
        "SELECT floor(extract(epoch FROM first_start))::bigint || ' ' || ceil(extract(epoch FROM last_start))::bigint "
        "FROM runs WHERE is_current = 1")[0].split())
    times = []
    for board in sorted((ROOT / "provisioning" / "dashboards").glob("*.json")):
        dashboard = json.loads(board.read_text())
        asked = [(f"variable {v['name']}", v["query"]) for v in dashboard["templating"]["list"]]
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                sql = expand(target["rawSql"], {"run": run, "session": session}, start, end)
                asked.append((panel["title"], sql))
        for title, sql in asked:
            text = psql(dsn, "-o", "/dev/null", stdin=f"{path}\n\\timing on\n" + f"{sql};\n" * 5)
            # \timing goes where results go; with -o that is standard output of psql itself.
            took = [float(ms) for ms in re.findall(r"Time: ([\d.]+) ms", text)]
            assert len(took) == 5, text
            times.append((statistics.median(took), board.stem, title))
    return sorted(times, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logweir", required=True, type=pathlib.Path)
    parser.add_argument("--sessions", type=int, default=575_061)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--project", type=pathlib.Path)
    parser.add_argument("--dsn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        scratch.chmod(0o755)
        project = options.project or scratch / "project"
        project.mkdir(parents=True, exist_ok=True)
        arguments = scored(options.logweir.resolve(), project.resolve(), options.sessions)
        dsn, server = options.dsn, None
        if not dsn:
            server = scratch / "server"
            server.mkdir()
            started = subprocess.run([ROOT / "scripts/pg-up.sh", server], stdout=subprocess.PIPE, text=True)
            if started.returncode:
                sys.exit(started.returncode)
            dsn = started.stdout.strip()
        try:
            return measure(arguments, dsn, scratch, options.rounds)
        finally:
            psql(dsn, "-c", "SET client_min_messages = warning; DROP SCHEMA IF EXISTS bench_export, bench_copy CASCADE")
            if server:
                subprocess.run([ROOT / "scripts/pg-up.sh", "--stop", server])


def measure(arguments, dsn, scratch, rounds):
    fresh = "SET client_min_messages = warning; DROP SCHEMA IF EXISTS bench_export, bench_copy CASCADE; CREATE SCHEMA bench_copy"
    into = "SET search_path TO bench_copy;"
    csv = {}

    def copy(table, options="csv"):
        return ["-c", into, "-c", f"\\copy {table} FROM '{csv[table]}' {options}"]

    def equal():
        """Only the sessions: a table made as the export makes it, filled, then indexed."""
        psql(dsn, "-1", "-c", into, "-c", "CREATE TABLE equal (LIKE bench_export.session_scores)", *copy("equal"),
             "-c", "ALTER TABLE equal ADD PRIMARY KEY (session_id)")

    def keyed():
        """Only the sessions, into a table that has its key."""
        psql(dsn, *copy("keyed"))

    def plain():
        """The seven columns, into a table without any index."""
        psql(dsn, *copy("plain", "csv header"))

    def whole():
        """Everything an export loads, in one transaction."""
        tables = [part for name in TABLES for part in copy(name)]
        psql(dsn, "-1", "-c", into, "-c", "CREATE TABLE sessions_of_it (LIKE bench_export.session_scores)", *copy("sessions_of_it"),
             "-c", "ALTER TABLE sessions_of_it ADD PRIMARY KEY (session_id)", *tables)

    took = {"export": [], "equal": [], "keyed": [], "plain": [], "whole": []}
    for _ in range(rounds):
        psql(dsn, "-c", fresh)
        took["export"].append(export(arguments, dsn))
        if not csv:
            for name in ("session_scores", *TABLES):
                csv[name] = scratch / f"{name}.csv"
                psql(dsn, "-c", f"\\copy (SELECT * FROM bench_export.{name}) TO '{csv[name]}' csv")
            csv.update(equal=csv["session_scores"], keyed=csv["session_scores"], sessions_of_it=csv["session_scores"])
            csv["plain"] = pathlib.Path(arguments[2]) / "reports/ensemble_sessions.csv"
        psql(dsn, "-c", f"{into} CREATE TABLE keyed (LIKE bench_export.session_scores, PRIMARY KEY (action_key, session_id)); "
             "CREATE TABLE plain AS SELECT session_id, \"timestamp\", p_lgbm, z_ae, fusion_score, is_alert, label "
             "FROM bench_export.session_scores WHERE false; "
             + "".join(f"CREATE TABLE {name} (LIKE bench_export.{name} INCLUDING ALL);" for name in TABLES))
        for name, work in (("equal", equal), ("keyed", keyed), ("plain", plain), ("whole", whole)):
            took[name].append(timed(work))
    count = psql(dsn, "-At", "-c", "SELECT sessions || ' sessions, ' || alerts || ' alerts' FROM bench_export.runs").strip()
    rows = [
        ("the stage `export`: artifacts read, all tables loaded, committed", "export"),
        ("\\copy of the same sessions into an equal table, indexed when full", "equal"),
        ("\\copy of the same sessions into a table with its primary key", "keyed"),
        ("\\copy of the seven columns into a table without an index", "plain"),
        ("\\copy of all tables of the export, with their indexes, one transaction", "whole"),
    ]
    print(f"{count}, {rounds} rounds, seconds")
    print(f"{'':72}{'median':>8}{'least':>8}{'export is':>11}")
    medians = {name: statistics.median(times) for name, times in took.items()}
    for title, name in rows:
        ratio = "" if name == "export" else f"{medians['export'] / medians[name]:9.2f} x"
        print(f"{title:72}{medians[name]:8.2f}{min(took[name]):8.2f}{ratio:>11}")
    psql(dsn, "-c", "ANALYZE")
    times = panels(dsn)
    print(f"\n{len(times)} queries of panels and variables, the slowest (ms, median of five)")
    for took_ms, board, title in times[:6]:
        print(f"{took_ms:8.1f}  {board}: {title}")
    return int(medians["export"] > 1.25 * medians["keyed"] or times[0][0] > 200)


if __name__ == "__main__":
    sys.exit(main())
