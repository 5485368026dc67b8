"""The calls of Terraform's provider for `aws_codebuild_project` and `aws_codebuild_start_build`, in their order, with boto3."""

import sys
import time

import boto3

codebuild = boto3.client("codebuild")
buildspec = "version: 0.2\nphases:\n  build:\n    commands:\n      - echo built\n"
given = {
    "name": "terraformed",
    "description": "first",
    "artifacts": {"type": "NO_ARTIFACTS"},
    "cache": {"type": "NO_CACHE"},
    "environment": {
        "type": "LINUX_CONTAINER",
        "image": "host",
        "computeType": "BUILD_GENERAL1_SMALL",
        "imagePullCredentialsType": "CODEBUILD",
        "privilegedMode": False,
        "environmentVariables": [{"name": "A", "value": "1", "type": "PLAINTEXT"}],
    },
    "logsConfig": {"cloudWatchLogs": {"status": "ENABLED"}, "s3Logs": {"status": "DISABLED", "encryptionDisabled": False}},
    "serviceRole": "arn:aws:iam::123456789012:role/builds",
    "source": {"type": "NO_SOURCE", "buildspec": buildspec, "insecureSsl": False, "gitCloneDepth": 0},
    "tags": [{"key": "made-by", "value": "terraform"}],
    "timeoutInMinutes": 60,
    "queuedTimeoutInMinutes": 480,
    "badgeEnabled": False,
}


def read(arn):
    answer = codebuild.batch_get_projects(names=[arn])
    return answer["projects"][0] if answer["projects"] else None


def expect(is_so, what):
    if not is_so:
        sys.exit(f"not as expected: {what}")


# Create: then its visibility, then what it reads into its state.
arn = codebuild.create_project(**given)["project"]["arn"]
codebuild.update_project_visibility(projectArn=arn, projectVisibility="PRIVATE")
state = read(arn)
for name, value in given.items():
    if name == "badgeEnabled":
        expect(state["badge"]["badgeEnabled"] is False, "badge")
    else:
        expect(state[name] == value, f"{name}: {state.get(name)} for {value}")
expect(state["encryptionKey"].endswith(":alias/aws/s3"), "encryptionKey")
expect(state["projectVisibility"] == "PRIVATE", "projectVisibility")

# Update: by the ARN, what is not there any more as it says so.
codebuild.update_project(
    name=arn, description="second", tags=[], vpcConfig={}, buildBatchConfig={}, concurrentBuildLimit=-1, badgeEnabled=False
)
changed = read(arn)
expect(changed["description"] == "second" and changed["tags"] == [], "update")
expect(changed["source"] == state["source"] and "concurrentBuildLimit" not in changed, "what is kept")
expect(changed["lastModified"] >= state["lastModified"] and changed["created"] == state["created"], "times")

# A build of it, waited for.
build = codebuild.start_build(projectName=arn)["build"]
while True:
    build = codebuild.batch_get_builds(ids=[build["id"]])["builds"][0]
    if build["buildStatus"] != "IN_PROGRESS":
        break
    time.sleep(0.1)
expect(build["buildStatus"] == "SUCCEEDED", build)

# Delete, by the ARN, and once more.
codebuild.delete_project(name=arn)
codebuild.delete_project(name=arn)
expect(read(arn) is None, "deleted")
print("as expected")
