#!/usr/bin/env python3
"""Writes provisioning/dashboards/*.json: change a panel here, then `make check-dashboards`.

    scripts/make-dashboards.py            writes the files
    scripts/make-dashboards.py --check    says which differ from what this would write (exit 1)

One panel is a line or two of SQL; what Grafana wants around it is made here. Rules that tests hold: panels over the whole range
read `score_minutes` and `score_hours`, never the scores of sessions; exports and sessions are chosen by `IN (${run:singlequote})`;
the first column of a time series is `time`; queries of variables use no variable.
"""
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "provisioning" / "dashboards"
SOURCE = {"type": "grafana-postgresql-datasource", "uid": "logweir"}
RUN = "action_key IN (${run:singlequote})"
RANGE = '$__timeFilter("timestamp")'
# Up to three days minute by minute, beyond that hour by hour.
SHORT = "$__unixEpochTo() - $__unixEpochFrom() <= 259200"
LONG = "$__unixEpochTo() - $__unixEpochFrom() > 259200"
BLUE, GREEN, RED, ORANGE, GREY, PURPLE = "#0072b2", "#009e73", "#d55e00", "#e69f00", "#999999", "#cc79a7"


def by_name(name, **properties):
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def color(name, value, **more):
    return by_name(name, color={"mode": "fixed", "fixedColor": value}, **more)


def link(name, title, url):
    return by_name(name, links=[{"title": title, "url": url}])


# Where a session's name leads, and a signature's.
TO_SESSION = link(
    "session", "lines and reasons of this session",
    "/d/logweir-session?${run:queryparam}&var-session=${__value.raw:percentencode}&${__url_time_range}",
)


def panel(kind, title, at, queries, about="", options=None, defaults=None, overrides=(), form="table"):
    x, y, w, h = at
    if isinstance(queries, str):
        queries = {"A": queries}
    return {
        "id": 0,
        "type": kind,
        "title": title,
        "description": about,
        "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "datasource": SOURCE,
        "targets": [
            {"refId": ref, "datasource": SOURCE, "editorMode": "code", "format": form, "rawQuery": True, "rawSql": sql}
            for ref, sql in queries.items()
        ],
        "fieldConfig": {"defaults": defaults or {}, "overrides": list(overrides)},
        "options": options or {},
    }


def stat(title, at, sql, about="", decimals=None, text=False, unit="short", mappings=None):
    defaults = {"unit": "string" if text else unit, "color": {"mode": "fixed", "fixedColor": "text"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    if mappings:
        defaults["mappings"] = mappings
    options = {
        "reduceOptions": {"values": text, "calcs": ["lastNotNull"], "fields": "/.*/" if text else ""},
        "textMode": "value",
        "colorMode": "value" if mappings else "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "wideLayout": True,
    }
    return panel("stat", title, at, sql, about, options, defaults)


def series(title, at, sql, about="", bars=False, stacked=False, unit="short", overrides=(), top=None):
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    defaults = {"unit": unit, "custom": custom, "min": 0}
    if top is not None:
        defaults["max"] = top
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    return panel("timeseries", title, at, sql, about, options, defaults, overrides, form="time_series")


def table(title, at, sql, about="", overrides=()):
    return panel(
        "table", title, at, sql, about,
        {"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
        {"custom": {"align": "auto", "inspect": True, "cellOptions": {"type": "auto"}}},
        overrides,
    )


def words(title, at, content):
    x, y, w, h = at
    return {
        "id": 0, "type": "text", "title": title, "description": "", "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "datasource": SOURCE, "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"mode": "markdown", "content": content},
    }


def decimals(digits, *names):
    return [by_name(name, decimals=digits) for name in names]


def gauge(name, digits=4):
    return by_name(name, decimals=digits, min=0, max=1, custom__cellOptions={"type": "gauge", "mode": "basic"})


def variable(name, label, query, about):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "description": about,
        "refresh": 1, "sort": 0, "multi": False, "includeAll": False, "hide": 0, "regex": "", "options": [],
    }


EXPORTS = variable(
    "run", "export",
    "SELECT action_key AS \"__value\", number || ' · ' || dataset || CASE is_current WHEN 1 THEN ' (current)' ELSE '' END "
    "AS \"__text\" FROM runs ORDER BY is_current DESC, number DESC",
    "exports, the current one first",
)
SESSIONS = variable(
    "session", "session",
    "SELECT session_id FROM current_alerts ORDER BY fusion_score DESC, session_id LIMIT 1000",
    "alerts of the current export, highest score first; any other id can be typed",
)

LABEL = "CASE label WHEN 1 THEN 'anomalous' WHEN 0 THEN 'normal' ELSE 'unknown' END"
METRIC = "max(value) FILTER (WHERE metric = '{}')"
VERDICTS = [{
    "type": "value",
    "options": {
        "stable": {"color": "green", "index": 0}, "watch": {"color": "orange", "index": 1},
        "refit": {"color": "red", "index": 2},
    },
}]


def of_run(metric, model="run"):
    return f"SELECT max(value) AS value FROM metrics WHERE {RUN} AND model = '{model}' AND metric = '{metric}'"


def minutes_or_hours(columns):
    """Columns of the rollups, by the minute where the range is short."""
    parts = [
        f'SELECT s."timestamp" AS "time", {columns} FROM {name} s JOIN runs USING (action_key) '
        f"WHERE {RUN} AND $__timeFilter(s.\"timestamp\") AND {when}"
        for name, when in (("score_minutes", SHORT), ("score_hours", LONG))
    ]
    return " UNION ALL ".join(parts) + " ORDER BY 1"


ALERTS = (
    f'SELECT "timestamp" AS "start", session_id AS "session", fusion_score AS "score", {LABEL} AS "label", type, reason, signature, '
    "CASE WHEN first_file IS NULL THEN '' ELSE first_file || ':' || first_line END AS \"first line\", p_lgbm AS \"p LightGBM\", "
    'z_ae AS "z error", fold '
    f"FROM alerts WHERE {RUN} AND {RANGE} ORDER BY fusion_score DESC, session_id LIMIT "
)
ALERT_FIELDS = [
    TO_SESSION, by_name("reason", custom__width=520), by_name("signature", custom__width=220),
    *decimals(4, "score", "p LightGBM"), *decimals(1, "z error"),
]
LIST_OF_EXPORTS = (
    "SELECT r.number, CASE r.is_current WHEN 1 THEN 'current' ELSE '' END AS \"view\", r.dataset, r.source, r.split, r.sessions, "
    "r.alerts, max(m.value) FILTER (WHERE m.metric = 'average_precision') AS \"average precision\", "
    "max(m.value) FILTER (WHERE m.metric = 'f1') AS \"F1\", r.objective, r.threshold, r.loaded_at AS \"loaded\", "
    "(extract(epoch FROM r.first_start) * 1000)::bigint AS \"from\", (extract(epoch FROM r.last_start) * 1000)::bigint AS \"to\", "
    "r.action_key AS \"key\" FROM runs r LEFT JOIN metrics m ON m.action_key = r.action_key AND m.model = 'fusion' "
    "GROUP BY r.action_key ORDER BY r.number DESC"
)
EXPORT_FIELDS = [
    link("number", "show this export over its own time range",
         "/d/logweir?var-run=${__data.fields.key}&from=${__data.fields.from}&to=${__data.fields.to}"),
    by_name("from", custom__hidden=True), by_name("to", custom__hidden=True),
    *decimals(4, "average precision", "F1", "threshold"), by_name("key", custom__width=160),
]

OVERVIEW = [
    stat("Data", (0, 0, 7, 4), f"SELECT dataset || ', ' || source || ' data, ' || split || ' split' AS data FROM runs WHERE {RUN}",
         "What was scored; simulated data say so.", text=True),
    stat("Sessions", (7, 0, 3, 4), f"SELECT sessions FROM runs WHERE {RUN}"),
    stat("Alerts", (10, 0, 3, 4), f"SELECT alerts FROM runs WHERE {RUN}"),
    stat("Alerts a day (test)", (13, 0, 3, 4), of_run("alerts_per_day"), decimals=1),
    stat("Average precision (test)", (16, 0, 3, 4), of_run("average_precision", "fusion"),
         "Of the fused score, on the test fold. Empty without labels.", decimals=4),
    stat("F1 (test)", (19, 0, 2, 4), of_run("f1", "fusion"), decimals=3),
    stat("Drift", (21, 0, 3, 4),
         f"SELECT coalesce((SELECT max(verdict) FROM drift WHERE {RUN}), 'not compared') AS verdict",
         "Whether new sessions are still like those that models were fitted on.", text=True, mappings=VERDICTS),
    series("Score over time", (0, 4, 24, 9), minutes_or_hours(
        's.max AS "highest", s.p50 AS "median", threshold'),
        "Fused score of the sessions that started in each minute (beyond three days: in each hour). At or above the threshold: alerts.",
        overrides=[color("highest", RED), color("median", BLUE), color("threshold", GREY)]),
    series("Score bands", (0, 13, 12, 8),
           f'SELECT "timestamp" AS "time", p50, p90, p99 FROM score_hours WHERE {RUN} AND {RANGE} ORDER BY 1',
           "Median, 90th and 99th percentile of the fused score by hour.",
           overrides=[color("p50", BLUE), color("p90", GREEN), color("p99", RED)]),
    series("Alerts per hour against the budget", (12, 13, 12, 8),
           'SELECT s."timestamp" AS "time", s.alerts AS "alerts", alert_budget / 24 AS "budget" '
           f'FROM score_hours s JOIN runs USING (action_key) WHERE {RUN} AND $__timeFilter(s."timestamp") ORDER BY 1',
           "Alerts among the sessions that started in each hour. The budget is `alerts_per_day` of the stage `export`, else that which "
           "the threshold was chosen for; without either there is no line.",
           bars=True, overrides=[
               color("alerts", RED),
               color("budget", GREY, custom__drawStyle="line", custom__fillOpacity=0, custom__lineWidth=2),
           ]),
    series("Sessions and alerts", (0, 21, 24, 7),
           "SELECT $__timeGroupAlias(\"timestamp\",'10m'), sum(sessions) AS \"sessions\", sum(alerts) AS \"alerts\" "
           f"FROM score_minutes WHERE {RUN} AND {RANGE} AND {SHORT} GROUP BY 1 UNION ALL "
           "SELECT $__timeGroupAlias(\"timestamp\",'1h'), sum(sessions) AS \"sessions\", sum(alerts) AS \"alerts\" "
           f"FROM score_hours WHERE {RUN} AND {RANGE} AND {LONG} GROUP BY 1 ORDER BY 1",
           "Sessions that started, and alerts among them (right axis), in ten minutes; beyond three days in an hour.",
           bars=True, overrides=[color("sessions", BLUE), color("alerts", RED, custom__axisPlacement="right")]),
    table("Highest scores", (0, 28, 24, 9), ALERTS + "20",
          "A click on a session shows its lines. All alerts: dashboard `Alerts`.", ALERT_FIELDS),
    table("Exports", (0, 37, 24, 7), LIST_OF_EXPORTS, "Every export in this database. A click on a number shows it over its own time range.",
          EXPORT_FIELDS),
]

ALERT_BOARD = [
    stat("Alerts in this range", (0, 0, 4, 4), f"SELECT coalesce(sum(alerts), 0) AS alerts FROM score_hours WHERE {RUN} AND {RANGE}"),
    stat("Signatures", (4, 0, 4, 4), f"SELECT count(*) AS signatures FROM signatures WHERE {RUN}",
         "Alerts of one signature deviate by the same templates."),
    series("Alerts per hour, by label", (8, 0, 16, 8),
           f'SELECT "timestamp" AS "time", tp AS "anomalous", fp AS "normal", alerts - tp - fp AS "unknown" FROM score_hours '
           f"WHERE {RUN} AND {RANGE} ORDER BY 1",
           bars=True, stacked=True, overrides=[color("anomalous", GREEN), color("normal", ORANGE), color("unknown", GREY)]),
    stat("Budget a day", (0, 4, 4, 4), f"SELECT coalesce(round(alert_budget::numeric, 1)::text, 'none') AS budget FROM runs WHERE {RUN}",
         text=True),
    stat("With lines", (4, 4, 4, 4), f"SELECT count(*) AS alerts FROM alert_lines WHERE {RUN}",
         "Alerts whose lines are in this database."),
    table("Alerts", (0, 8, 24, 13), ALERTS + "500", "The 500 highest scores of the time range. A click on a session shows its lines.",
          ALERT_FIELDS),
    table("Alike alerts, most frequent first", (0, 21, 24, 9),
          "SELECT signature, alerts, anomalous, normal, unknown, first_seen AS \"first\", last_seen AS \"last\", "
          f'highest_score AS "highest score", example AS "session", reason FROM signatures WHERE {RUN} '
          "ORDER BY alerts DESC, signature_id LIMIT 200",
          "Alerts that deviate by the same templates. `session` is one of them.",
          [TO_SESSION, by_name("reason", custom__width=520), by_name("signature", custom__width=260), *decimals(4, "highest score")]),
    table("By type of anomaly", (0, 30, 24, 6),
          "SELECT coalesce(type, 'not labelled an anomaly') AS \"type\", count(*) AS \"alerts\", min(\"timestamp\") AS \"first\", "
          f'max("timestamp") AS "last", max(fusion_score) AS "highest score" FROM alerts WHERE {RUN} AND {RANGE} '
          "GROUP BY 1 ORDER BY 2 DESC, 1", overrides=decimals(4, "highest score")),
]

SESSION = f"{RUN} AND session_id IN (${{session:singlequote}})"
SESSION_BOARD = [
    table("Session", (0, 0, 24, 4),
          f'SELECT session_id AS "session", "timestamp" AS "start", fusion_score AS "score", CASE is_alert WHEN 1 THEN \'alert\' ELSE \'\' END '
          f'AS "decision", {LABEL} AS "label", p_lgbm AS "p LightGBM", z_ae AS "z error", fold FROM session_scores '
          f"WHERE {SESSION} ORDER BY session_id LIMIT 100",
          overrides=[*decimals(4, "score", "p LightGBM"), *decimals(1, "z error")]),
    table("Why", (0, 4, 16, 6),
          f"SELECT reason, signature, type, nearest AS \"nearest benign session\", events, odd_lines AS \"lines that stand out\" FROM alerts "
          f"WHERE {SESSION} ORDER BY session_id LIMIT 100", "Of alerts only.",
          [by_name("reason", custom__width=620)]),
    table("Parts of the models in the decision", (16, 4, 8, 6),
          " UNION ALL ".join(
              f"SELECT '{title}' AS \"model\", {column} AS \"part\" FROM alerts WHERE {SESSION} AND {column} IS NOT NULL"
              for title, column in (("LightGBM", "share_lgbm"), ("autoencoder", "share_ae"), ("benign profile", "share_profile"))
          ) + " UNION ALL "
          f"SELECT 'fused score', fusion_score FROM alerts WHERE {SESSION} LIMIT 100",
          "What each adds to the score, as a share; the last row is the score itself.", [gauge("part", 3)]),
    table("Lines", (0, 10, 24, 16),
          'SELECT position AS "event", "timestamp" AS "time", coalesce(why, \'\') AS "stands out", event_id AS "template", text, file, line '
          f"FROM alert_events WHERE {SESSION} ORDER BY session_id, position LIMIT 1000",
          "Lines of an alert by template; `stands out` says why. At most 200 of a session are kept: those that stand out, and its first ones.",
          [by_name("text", custom__width=760),
           by_name("stands out", custom__cellOptions={"type": "color-background", "mode": "basic"},
                   mappings=[{"type": "regex", "options": {"pattern": ".+", "result": {"color": "orange", "index": 0}}}])]),
    table("Alike alerts", (0, 26, 16, 8),
          'SELECT b."timestamp" AS "start", b.session_id AS "session", b.fusion_score AS "score", b.reason FROM alerts b '
          f"WHERE b.{RUN} AND b.signature_id IN (SELECT signature_id FROM alerts WHERE {SESSION}) "
          "ORDER BY b.fusion_score DESC, b.session_id LIMIT 50",
          "Alerts that deviate by the same templates.", [TO_SESSION, *decimals(4, "score"), by_name("reason", custom__width=520)]),
    words("The raw lines", (16, 26, 8, 8),
          "Where the logs are:\n\n```\nlogweir lines ${session}\nlogweir explain ${session}\n```\n\n"
          "The first prints the lines as they stand in the log, the second says more about the reasons."),
]

MODEL_BOARD = [
    table("Model comparison", (0, 0, 24, 7),
          "SELECT model, " + METRIC.format("average_precision") + " AS \"average precision\", "
          "coalesce(round(max(ci95_low) FILTER (WHERE metric = 'average_precision')::numeric, 4) || ' to ' || "
          "round(max(ci95_high) FILTER (WHERE metric = 'average_precision')::numeric, 4), '') AS \"95 % interval\", "
          + ", ".join(f'{METRIC.format(metric)} AS "{title}"' for metric, title in (
              ("roc_auc", "ROC AUC"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall"),
              ("fpr", "false-positive rate"), ("threshold", "threshold")))
          + f" FROM metrics WHERE {RUN} AND model <> 'run' AND metric NOT LIKE 'recall of %' GROUP BY model "
          "ORDER BY 2 DESC NULLS LAST, model",
          "Test fold, each model at its own threshold, chosen on validation.",
          [gauge("average precision"), *decimals(4, "ROC AUC", "F1", "precision", "recall", "threshold"),
           by_name("false-positive rate", unit="percentunit", decimals=3)]),
    series("Precision and recall over time", (0, 7, 14, 9),
           'SELECT "timestamp" AS "time", tp::float8 / nullif(tp + fp, 0) AS "precision", tp::float8 / nullif(tp + fn, 0) AS "recall" '
           f"FROM score_hours WHERE {RUN} AND {RANGE} AND tp + fp + fn > 0 ORDER BY 1",
           "By hour, all folds; hours without an alert or an anomaly have none.", top=1,
           overrides=[color("precision", BLUE, custom__showPoints="auto"), color("recall", GREEN, custom__showPoints="auto")]),
    table("Confusion matrix", (14, 7, 10, 9),
          "SELECT 'test' AS \"sessions\", max(value) FILTER (WHERE metric = 'test_tp') AS \"TP\", max(value) FILTER (WHERE metric = "
          "'test_fp') AS \"FP\", max(value) FILTER (WHERE metric = 'test_fn') AS \"FN\", max(value) FILTER (WHERE metric = 'test_tn') "
          f"AS \"TN\" FROM metrics WHERE {RUN} AND model = 'run' UNION ALL "
          f"SELECT 'this range, all folds', sum(tp)::float8, sum(fp)::float8, sum(fn)::float8, sum(tn)::float8 FROM score_hours WHERE {RUN} "
          f"AND {RANGE}",
          "Alerts against labels; only the test fold was seen by neither the models nor the threshold."),
    series("Decisions against labels", (0, 16, 14, 8),
           'SELECT "timestamp" AS "time", tp AS "true positives", fp AS "false alerts", fn AS "missed", tn AS "true negatives" '
           f"FROM score_hours WHERE {RUN} AND {RANGE} ORDER BY 1",
           "By hour, all folds; sessions without a label are left out. True negatives are on the right axis.",
           bars=True, stacked=True, overrides=[
               color("true positives", GREEN), color("false alerts", ORANGE), color("missed", RED),
               color("true negatives", BLUE, custom__axisPlacement="right", custom__drawStyle="line", custom__fillOpacity=0,
                     custom__stacking={"mode": "none", "group": "B"}),
           ]),
    table("Recall by type of anomaly", (14, 16, 10, 8),
          'SELECT substr(metric, 11) AS "type", value AS "recall", ci95_low AS "low", ci95_high AS "high" FROM metrics '
          f"WHERE {RUN} AND model = 'fusion' AND metric LIKE 'recall of %' ORDER BY value, metric",
          "Alerts among the anomalous test sessions of each type, with 95 % interval.", [gauge("recall", 3), *decimals(3, "low", "high")]),
    table("From export to export", (0, 24, 24, 7),
          "SELECT r.number, r.loaded_at AS \"loaded\", r.objective, r.threshold, "
          + ", ".join(
              f"max(m.value) FILTER (WHERE m.model = '{model}' AND m.metric = 'average_precision') AS \"{title}\""
              for model, title in (("fusion", "fusion"), ("lgbm", "LightGBM"), ("ae", "autoencoder"), ("profile", "profile")))
          + ", max(m.value) FILTER (WHERE m.model = 'fusion' AND m.metric = 'precision') AS \"precision\", "
          "max(m.value) FILTER (WHERE m.model = 'fusion' AND m.metric = 'recall') AS \"recall\" "
          "FROM runs r LEFT JOIN metrics m ON m.action_key = r.action_key GROUP BY r.action_key ORDER BY r.number DESC",
          "Average precision of each model, precision and recall of the fusion, all on the test fold of each export.",
          decimals(4, "threshold", "fusion", "LightGBM", "autoencoder", "profile", "precision", "recall")),
]

DRIFT_BOARD = [
    stat("Verdict", (0, 0, 4, 5), f"SELECT coalesce((SELECT max(verdict) FROM drift WHERE {RUN}), 'not compared') AS verdict",
         "`stable`: nothing to do; `watch`: something moved, no further than before; `refit`: fit models anew.", text=True, mappings=VERDICTS),
    table("Why", (4, 0, 20, 5),
          'SELECT reason, reference AS "held against", reference_sessions AS "sessions", reference_first AS "first", reference_last AS "last", '
          f'new AS "compared", new_sessions AS "sessions of it", new_first AS "from", new_last AS "to" FROM drift WHERE {RUN}',
          overrides=[by_name("reason", custom__width=560)]),
    table("What was compared", (0, 5, 24, 7),
          'SELECT title AS "measure", verdict, divergence, chance AS "by chance", history AS "within the reference", p, '
          f'p_adjusted AS "p of all", psi AS "PSI" FROM drift_measures WHERE {RUN} ORDER BY divergence DESC, measure',
          "Divergence in bits: 0 equal, 1 nothing in common; beside what chance reaches, and stretches of the reference among each other.",
          [by_name("verdict", mappings=VERDICTS, custom__cellOptions={"type": "color-text"}),
           *decimals(4, "divergence", "by chance", "within the reference", "p", "p of all", "PSI")]),
    series("Templates seen for the first time", (0, 12, 24, 7),
           "SELECT date_trunc('hour', first_seen) AS \"time\", count(*) FILTER (WHERE in_training = 1) AS \"in training sessions\", "
           f"count(*) FILTER (WHERE in_training = 0) AS \"new since training\" FROM templates WHERE {RUN} AND $__timeFilter(first_seen) "
           "GROUP BY 1 ORDER BY 1", "By hour.", bars=True, stacked=True,
           overrides=[color("in training sessions", BLUE), color("new since training", RED)]),
    table("Templates, newest first", (0, 19, 24, 9),
          'SELECT first_seen AS "first seen", last_seen AS "last seen", event_id AS "template", CASE in_training WHEN 1 THEN \'no\' ELSE '
          f"'yes' END AS \"new since training\", events, sessions, text FROM templates WHERE {RUN} "
          "ORDER BY in_training, first_seen DESC NULLS LAST, event_id LIMIT 100",
          "Log templates by the time they first appeared; those that no training session has come first.", [by_name("text", custom__width=720)]),
    table("Templates that came, went or moved", (0, 28, 24, 9),
          'SELECT change, event_id AS "template", reference_share AS "share before", new_share AS "share now", bits, p, text '
          f"FROM drift_templates WHERE {RUN} ORDER BY change <> 'new', bits DESC, event_id LIMIT 200",
          "Shares of events; `bits` is what a template adds to the divergence.",
          [by_name("share before", unit="percentunit", decimals=3), by_name("share now", unit="percentunit", decimals=3),
           *decimals(4, "bits", "p"), by_name("text", custom__width=640)]),
]

LINEAGE_BOARD = [
    table("Exports", (0, 0, 24, 7), LIST_OF_EXPORTS, "Every export in this database. A click on a number shows it over its own time range.",
          EXPORT_FIELDS),
    panel("nodeGraph", "What made the scores", (0, 7, 24, 14), {
        "nodes": 'SELECT path AS "id", path AS "title", CASE stage WHEN \'\' THEN \'source\' ELSE \'artifact\' END AS "subtitle", '
                 f"left(digest, 12) AS \"mainstat\", '#999999' AS \"color\" FROM lineage WHERE {RUN} UNION "
                 'SELECT stage_key, stage, kind, left(stage_key, 12), \'#0072b2\' FROM lineage_actions '
                 f"WHERE {RUN} ORDER BY 1",
        "edges": f"SELECT source || ' > ' || target AS \"id\", source AS \"source\", target AS \"target\" FROM lineage_edges WHERE {RUN} "
                 "GROUP BY 2, 3 ORDER BY 1",
    }, "Files (grey) and the stages between them (blue), back to the raw logs. The number is the beginning of a digest or key."),
    table("Files", (0, 21, 24, 10),
          "SELECT l.path AS \"artifact\", coalesce(nullif(l.stage, ''), 'source') AS \"made by\", l.digest AS \"content (blake3)\", "
          f"l.stage_key AS \"key of the action\", l.action_key AS \"export\" FROM lineage l WHERE l.{RUN} "
          "ORDER BY l.stage = '', l.stage, l.path",
          "Everything the exported scores were made from. `logweir lineage KEY` says in which run, when and where."),
    table("Stages with their parameters", (0, 31, 24, 10),
          'SELECT stage, kind, stage_key AS "key", parameters FROM lineage_actions '
          f"WHERE {RUN} ORDER BY stage, stage_key",
          "`logweir lineage KEY` says in which run, when and where.", [by_name("parameters", custom__width=800)]),
]

BOARDS = [
    ("logweir", "Log anomalies", "Scores, alerts and metrics of an export of logweir.", OVERVIEW, [EXPORTS]),
    ("logweir-alerts", "Log anomalies: alerts", "Every alert with its reason, and alike alerts.", ALERT_BOARD, [EXPORTS]),
    ("logweir-session", "Log anomalies: one session", "Why a session is an alert, and its lines.", SESSION_BOARD, [EXPORTS, SESSIONS]),
    ("logweir-models", "Log anomalies: models and quality", "Models compared; decisions against labels.", MODEL_BOARD, [EXPORTS]),
    ("logweir-drift", "Log anomalies: templates and drift", "New templates, and whether models still fit.", DRIFT_BOARD, [EXPORTS]),
    ("logweir-lineage", "Log anomalies: lineage", "Which files, stages and parameters made what is shown.", LINEAGE_BOARD, [EXPORTS]),
]


def dashboard(uid, title, about, panels, variables):
    for number, one in enumerate(panels, 1):
        one["id"] = number
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["logweir"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 2,
        "refresh": "",
        "timezone": "utc",
        "weekStart": "",
        # Replaced by the range of the data when they are provisioned: provisioning/range.sh.
        "time": {"from": "2008-11-09T20:00:00.000Z", "to": "2008-11-11T12:00:00.000Z"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [{
            "title": "Log anomalies", "type": "dashboards", "tags": ["logweir"], "asDropdown": False, "includeVars": True,
            "keepTime": True, "targetBlank": False, "icon": "dashboard", "tooltip": "", "url": "",
        }],
        "templating": {"list": variables},
        "panels": panels,
    }


def main():
    differ = []
    for uid, title, about, panels, variables in BOARDS:
        path = FOLDER / f"{uid}.json"
        text = json.dumps(dashboard(uid, title, about, panels, variables), indent=1, ensure_ascii=False) + "\n"
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text() != text:
                differ.append(path.name)
        else:
            path.write_text(text)
    if differ:
        print(f"not what scripts/make-dashboards.py writes: {', '.join(differ)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
