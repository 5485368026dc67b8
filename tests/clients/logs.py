"""Reads the log of a build by every loop that programs around CodeBuild read one with, and prints what each has read."""

import json
import sys
import time

import boto3

build_id = sys.argv[1]
logs, codebuild = boto3.client("logs"), boto3.client("codebuild")


def record():
    return codebuild.batch_get_builds(ids=[build_id])["builds"][0]


def tail(group):
    """As `aws logs tail --follow`: from the newest time on, each event once."""
    seen, since, text = set(), int(time.time() * 1000) - 600_000, ""
    while True:
        is_over = record()["buildComplete"]
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, interleaved=True, startTime=since, PaginationConfig={"PageSize": 7}
        )
        for page in pages:
            for event in page["events"]:
                since = max(since, event["timestamp"])
                if event["eventId"] not in seen:
                    seen.add(event["eventId"])
                    text += event["message"]
        if is_over:
            return text


def skipping(group, stream):
    """As the SageMaker SDK: from the last time on, without as many as were of it."""
    last, skip, text = 0, 0, ""
    token, passed = None, skip
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(
            logGroupName=group, logStreamName=stream, startTime=last, startFromHead=True, limit=9, **more
        )
        events = page["events"]
        if not events:
            return text
        for event in events[passed:] if not token else events:
            text += event["message"]
        token = page["nextForwardToken"]
        passed = 0


def forward(group, stream):
    """As aws-codebuild-run-build: until the token comes back."""
    token, text = None, ""
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, limit=5, **more)
        text += "".join(event["message"] for event in page["events"])
        if page["nextForwardToken"] == token:
            return text
        token = page["nextForwardToken"]


def backward(group, stream):
    """As aws-codeseeder: from the end, until the token comes back."""
    token, text = None, ""
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=5, **more)
        text = "".join(event["message"] for event in page["events"]) + text
        if page["nextBackwardToken"] == token:
            return text
        token = page["nextBackwardToken"]


group = "/aws/codebuild/" + build_id.split(":")[0]
read = {"tail": tail(group)}
where = record()["logs"]
assert where["groupName"] == group, where
streams = [
    stream["logStreamName"]
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group, orderBy="LastEventTime")
    for stream in page["logStreams"]
]
groups = [
    one["logGroupName"] for page in logs.get_paginator("describe_log_groups").paginate() for one in page["logGroups"]
]
assert streams == [where["streamName"]] and groups == [group], (streams, groups)
for loop in skipping, forward, backward:
    read[loop.__name__] = loop(group, where["streamName"])
print(json.dumps(read))
