"""Asks the view of the recorded grid for pages, when all of its cells are ready."""

import json
import time

import llmops_lab as lab

view = lab.load("recorded").show()


def first_page():
    return view.call("page", {"query": {"layout": "cells"}, "start": 0}, user="")


view.call("open", {}, user="")
while not view.call("standing", {}, user="").data["ready"]:
    time.sleep(0.05)
time.sleep(0.5)
for _ in range(5):
    answer = first_page()
calls = 50
began = time.process_time()
for _ in range(calls):
    answer = first_page()
cpu = time.process_time() - began
size = sum(map(len, answer.buffers)) + len(json.dumps(answer.data))
print(json.dumps({"cpu_ms": 1000 * cpu / calls, "bytes": size}))
