"""Sends every operation that is named the least, the most and each thing broken once, and reads every answer by the
shape that botocore has for it: what is not in the shape, or is missing from it, is a failure."""

import json
import sys
import urllib.error
import urllib.request

import botocore.session
from botocore.parsers import create_parser

session = botocore.session.get_session()
models = {"codebuild": "CodeBuild_20161006.", "logs": "Logs_20140328."}
parser = create_parser("json")
problems = []


def sample(shape, whole, depth=0):
    """A value of a shape."""
    if shape.type_name == "structure":
        names = shape.members if whole and depth < 6 else shape.required_members
        return {name: sample(shape.members[name], whole, depth + 1) for name in names}
    if shape.type_name == "list":
        least = shape.metadata.get("min", 0)
        return [sample(shape.member, whole, depth + 1) for _ in range(max(least, int(whole)))]
    if shape.type_name == "string":
        if shape.enum:
            return shape.enum[0]
        return "a" * max(shape.metadata.get("min", 0), 3)
    if shape.type_name in ("integer", "long"):
        return max(shape.metadata.get("min", 1), 1)
    return {"boolean": False, "double": 1.0}[shape.type_name]


def broken(shape, value):
    """The value with one constraint broken, once for each."""
    meta = shape.metadata
    if shape.type_name == "structure":
        for name in shape.required_members:
            yield {key: value[key] for key in value if key != name}
        for name in value:
            for bad in broken(shape.members[name], value[name]):
                yield {**value, name: bad}
    elif shape.type_name == "list":
        if meta.get("min"):
            yield []
        if "max" in meta:
            yield [sample(shape.member, False)] * (meta["max"] + 1)
        for bad in broken(shape.member, value[0]) if value else ():
            yield [bad]
    elif shape.type_name == "string":
        if shape.enum:
            yield "NO_SUCH_CHOICE"
        elif "max" in meta:
            yield "a" * (meta["max"] + 1)
        if meta.get("min"):
            yield ""
    elif shape.type_name in ("integer", "long"):
        if "min" in meta:
            yield meta["min"] - 1
        if "max" in meta:
            yield meta["max"] + 1


def call(operation, body):
    prefix = models[operation.service_model.service_name]
    headers = {"X-Amz-Target": prefix + operation.name}
    request = urllib.request.Request(sys.argv[1], json.dumps(body).encode(), headers)
    try:
        answer = urllib.request.urlopen(request)
        return 200, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def fits(shape, value, place):
    """What of an answer is not as its shape."""
    if value is None:
        problems.append(f"{place}: null")
        return
    if shape.type_name == "structure":
        for name in value:
            # Of our own, beside AWS's.
            if name not in shape.members and name not in ("notices", "reports", "skipped", "stubs"):
                problems.append(f"{place}: {name} is no member")
        for name in shape.required_members:
            if name not in value:
                problems.append(f"{place}: {name} is missing")
        for name in value:
            if name in shape.members:
                fits(shape.members[name], value[name], f"{place}.{name}")
    elif shape.type_name == "list":
        for item in value:
            fits(shape.member, item, place)
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        # What AWS answers of batches, and has not in its model.
        if "buildBatch" in place and value in ("PENDING", "RETRY", "CLIENT_ERROR", "no_artifacts"):
            return
        problems.append(f"{place}: {value} is no choice")


def read(operation, body):
    status, headers, text = call(operation, body)
    if status == 200 and operation.output_shape:
        fits(operation.output_shape, json.loads(text), operation.name)
    parsed = parser.parse({"body": text, "headers": headers, "status_code": status}, operation.output_shape)
    return status, parsed.get("Error", {})


real = {
    "name": "every", "projectName": "every", "names": ["every"],
    "serviceRole": "arn:aws:iam::123456789012:role/a",
    "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
    "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
}

# What is looked up has been built by then.
build_id, batch_id = sys.argv[2:4]
described = [name.split(":") for name in sys.argv[4:]]
group, stream = "/aws/codebuild/" + build_id.split(":")[0], build_id.split(":")[1]
answered = {
    "BatchGetBuildBatches": {"ids": [batch_id, "demo:x"]},
    "BatchGetBuilds": {"ids": [build_id, "demo:x"]},
    "BatchGetProjects": {"names": ["demo"]},
    "CreateProject": {**real, "name": "every-one"},
    "DescribeLogStreams": {"logGroupName": group},
    "FilterLogEvents": {"logGroupName": group},
    "GetLogEvents": {"logGroupName": group, "logStreamName": stream},
    "InvalidateProjectCache": {"projectName": "demo"},
    "ListBuildBatchesForProject": {"projectName": "demo"},
    "ListBuildsForProject": {"projectName": "demo"},
    "RetryBuild": {"id": build_id},
    "StartBuild": {"projectName": "demo"},
    "StartBuildBatch": {"projectName": "demo"},
    "StopBuild": {"id": build_id},
    "StopBuildBatch": {"id": batch_id},
    "UpdateProject": {"name": "demo", "description": "new"},
    "UpdateProjectVisibility": {
        "projectArn": "arn:aws:codebuild:us-east-1:000000000000:project/demo",
        "projectVisibility": "PRIVATE",
    },
}

for service, name in described:
    operation = session.get_service_model(service).operation_model(name)
    shape = operation.input_shape
    wrong = {"codebuild": "InvalidInputException", "logs": "InvalidParameterException"}[service]
    errors = {error.name for error in operation.error_shapes} | {"SerializationException", "ValidationException"}
    if name == "DeleteProject":
        continue
    if name in answered:
        status, error = read(operation, answered[name])
        if status != 200:
            problems.append(f"{name}: {status} {error}")
    for whole in (False, True):
        body = sample(shape, whole)
        for given in (body, {**body, **{key: real[key] for key in real if key in body}}):
            status, error = read(operation, given)
            if status not in (200, 400) or status == 400 and error.get("Code") not in errors:
                problems.append(f"{name}: {status} {error}")
        if name in ("StartBuild", "StartBuildBatch"):
            continue
        for bad in broken(shape, body):
            status, error = read(operation, bad)
            # Of two names for one thing, that both are there is said first.
            if status != 400 or error.get("Code") not in (wrong, "ValidationException"):
                problems.append(f"{name}: {status} {error} of {json.dumps(bad)[:200]}")

# With what there is.
status, error = read(session.get_service_model("codebuild").operation_model("BatchDeleteBuilds"), {"ids": [build_id]})
if status != 200:
    problems.append(f"BatchDeleteBuilds: {status} {error}")

operation = session.get_service_model("codebuild").operation_model("DeleteBuildBatch")
status, error = read(operation, {"id": batch_id})
if status != 200:
    problems.append(f"DeleteBuildBatch: {status} {error}")

print("\n".join(problems[:40]))
print("all read" if not problems else "not all read")
