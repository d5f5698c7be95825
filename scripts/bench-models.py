#!/usr/bin/env python3
"""Trains with the Python packages what `cargo bench --bench models` has trained, and prints both beside each other."""

import json
import pathlib
import sys
import time

import numpy as np
import scipy.sparse as sp

folder = pathlib.Path(sys.argv[1])
bench = json.loads((folder / "bench.json").read_text())


def array(name, kind):
    return np.fromfile(folder / name, dtype=kind)


def sparse(name, columns):
    offsets, indices = array(f"{name}.offsets", "<u8").astype(np.int32), array(f"{name}.indices", "<u4").astype(np.int32)
    return sp.csr_matrix((array(f"{name}.values", "<f4"), indices, offsets), shape=(len(offsets) - 1, columns))


def average_precision(scores, truth):
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    last = np.append(scores[1:] != scores[:-1], True)
    true = np.cumsum(truth)[last]
    flagged = (np.arange(len(scores)) + 1)[last]
    return float((np.diff(true, prepend=0) * true / flagged).sum() / true[-1])


def row(name, ours, theirs):
    print(f"{name:36} {ours:12.3f} s {theirs:12.3f} s {ours / theirs:8.2f}")


def boosting():
    import lightgbm as lgb

    ours = bench["lightgbm"]
    parameters = dict(pair.split("=", 1) for pair in ours["parameters"].split())
    columns = ours["columns"]
    train, validation, everything = (sparse(name, columns) for name in ("train", "validation", "all"))
    labels, truth = array("train.labels", "<f4"), array("validation.labels", "<f4")
    start = time.perf_counter()
    train_set = lgb.Dataset(train, labels, params=parameters)
    validation_set = lgb.Dataset(validation, truth, reference=train_set, params=parameters)
    booster = lgb.train(parameters, train_set, ours["rounds"], valid_sets=[validation_set])
    trained = time.perf_counter() - start
    start = time.perf_counter()
    booster.predict(everything, raw_score=True, num_threads=1)
    predicted = time.perf_counter() - start
    ap = average_precision(booster.predict(validation, raw_score=True, num_threads=1), truth)
    sizes = ours["rows"]
    print(f"LightGBM, package {lgb.__version__}: {sizes['train']} train rows, {columns} columns, {ours['rounds']} rounds, 1 thread")
    row("training with validation per round", ours["train_seconds"], trained)
    row(f"prediction of {sizes['predicted']} rows", ours["predict_seconds"], predicted)
    print(f"{'average precision on validation':36} {ours['average_precision']:14.9f} {ap:14.9f}   difference {abs(ours['average_precision'] - ap):.1e}")
    return abs(ours["average_precision"] - ap) <= 1e-6


def network():
    import torch

    ours = bench["autoencoder"]
    torch.set_num_threads(1)
    torch.manual_seed(42)
    columns = ours["columns"]
    centre, scale = array("centre", "<f4"), array("scale", "<f4")

    def inputs(name):
        dense = (sparse(name, columns).toarray() - centre) / scale
        return torch.from_numpy(np.clip(dense, -ours["clip"], ours["clip"]).astype(np.float32))

    rows, held = inputs("benign"), inputs("held")
    shape = [columns, *ours["hidden"], ours["bottleneck"], *reversed(ours["hidden"]), columns]
    layers = []
    for i, (a, b) in enumerate(zip(shape, shape[1:])):
        layers += [torch.nn.Linear(a, b)] + ([torch.nn.ReLU()] if i + 2 < len(shape) else [])
    model = torch.nn.Sequential(*layers)
    adam = torch.optim.Adam(model.parameters(), lr=ours["learning_rate"])
    start = time.perf_counter()
    errors = []
    for _ in range(ours["epochs"]):
        for batch in torch.randperm(len(rows)).split(ours["batch"]):
            x = rows[batch]
            adam.zero_grad()
            loss = ((model(x) - x) ** 2).mean()
            loss.backward()
            adam.step()
        with torch.no_grad():
            errors.append(((model(held) - held) ** 2).mean().item())
    seconds = time.perf_counter() - start
    print(f"autoencoder {'-'.join(map(str, shape))}, PyTorch {torch.__version__}: {len(rows)} rows, batch {ours['batch']}, {ours['epochs']} epochs, 1 thread")
    row("training with validation per epoch", ours["seconds"], seconds)
    print(f"{'error on validation, first epoch':36} {ours['first_error']:14.6f} {errors[0]:14.6f}")
    print(f"{'error on validation, last epoch':36} {ours['last_error']:14.6f} {errors[-1]:14.6f}")


print(f"{'':36} {'logweir':>14} {'Python':>14} {'ratio':>8}")
same = boosting()
network()
if not same:
    sys.exit("the average precisions differ by more than 1e-6")
