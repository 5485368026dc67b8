//! Every key of a project in AWS's API, with the shape of its value.
//!
//! `shape` compares a file with this table. The parent module interprets the values.

use crate::spec::language::{LanguageKey, ValueShape, key, required};
use ValueShape::{Any, Choice, Count, Flag, Map, Maps, Text, Texts};

pub(super) const ANSWER: ValueShape = Map(&[
    key("projects", Maps(KEYS), "Projects."),
    key("projectsNotFound", Texts, "Names of projects that are not there."),
]);

pub(super) const PROJECT: ValueShape = Map(KEYS);

const KEYS: &[LanguageKey] = &[
    key("name", Text, "Its name."),
    key("arn", Text, "Its long name."),
    key("description", Text, "About it."),
    key("source", Map(SOURCE), "Its source."),
    key("secondarySources", Maps(SOURCE), "Further sources."),
    key("sourceVersion", Text, "Version of the source."),
    key(
        "secondarySourceVersions",
        Maps(&[
            required("sourceIdentifier", Text, "The source."),
            required("sourceVersion", Text, "Its version."),
        ]),
        "Versions of the further sources.",
    ),
    key("artifacts", Map(ARTIFACTS), "Where artifacts go."),
    key("secondaryArtifacts", Maps(ARTIFACTS), "Where further artifacts go."),
    key("cache", Map(CACHE), "The cache."),
    key("environment", Map(ENVIRONMENT), "What builds run in."),
    key("serviceRole", Text, "Whom builds act as."),
    key("timeoutInMinutes", Count, "How long a build may run."),
    key("queuedTimeoutInMinutes", Count, "How long a build may wait."),
    key("encryptionKey", Text, "The key of artifacts."),
    key("tags", Maps(&[key("key", Text, "Key."), key("value", Text, "Value.")]), "Tags."),
    key("created", Text, "When it was made."),
    key("lastModified", Text, "When it was changed."),
    key("webhook", Any, "What starts builds."),
    key(
        "vpcConfig",
        Map(&[
            key("vpcId", Text, "The VPC."),
            key("subnets", Texts, "Its subnets."),
            key("securityGroupIds", Texts, "Its security groups."),
        ]),
        "The network of builds.",
    ),
    key(
        "badge",
        Map(&[
            key("badgeEnabled", Flag, "Whether there is one."),
            key("badgeRequestUrl", Text, "Where."),
        ]),
        "The badge.",
    ),
    key("badgeEnabled", Flag, "Whether there is a badge."),
    key("logsConfig", Map(LOGS), "Where logs go."),
    key(
        "fileSystemLocations",
        Maps(&[
            key("type", Text, "EFS."),
            key("location", Text, "The file system."),
            key("mountPoint", Text, "Where builds see it."),
            key("identifier", Text, "Its name."),
            key("mountOptions", Text, "How it is mounted."),
        ]),
        "File systems of builds.",
    ),
    key("buildBatchConfig", Any, "About batch builds."),
    key("concurrentBuildLimit", Count, "Most builds at once."),
    key("projectVisibility", Text, "Who sees it."),
    key("publicProjectAlias", Text, "Its name in public."),
    key("resourceAccessRole", Text, "Who shows it in public."),
    key("autoRetryLimit", Count, "How often a failed build is run again."),
];

const SOURCE: &[LanguageKey] = &[
    key(
        "type",
        Choice(&[
            "CODECOMMIT",
            "CODEPIPELINE",
            "GITHUB",
            "GITLAB",
            "GITLAB_SELF_MANAGED",
            "S3",
            "BITBUCKET",
            "GITHUB_ENTERPRISE",
            "NO_SOURCE",
        ]),
        "Where it is.",
    ),
    key("location", Text, "Its address."),
    key("gitCloneDepth", Count, "How much of its history is fetched."),
    key(
        "gitSubmodulesConfig",
        Map(&[key("fetchSubmodules", Flag, "Whether submodules are fetched.")]),
        "About submodules.",
    ),
    key("buildspec", Text, "The buildspec: a path, a text, or an object's ARN."),
    key("auth", Any, "How it is reached."),
    key("reportBuildStatus", Flag, "Whether builds are told there."),
    key("buildStatusConfig", Any, "How builds are told there."),
    key("insecureSsl", Flag, "Whether certificates matter."),
    key("sourceIdentifier", Text, "Its name among the sources."),
];

const ARTIFACTS: &[LanguageKey] = &[
    key("type", Choice(&["CODEPIPELINE", "S3", "NO_ARTIFACTS"]), "What becomes of them."),
    key("location", Text, "The bucket."),
    key("path", Text, "A prefix of the key."),
    key("namespaceType", Choice(&["NONE", "BUILD_ID"]), "Whether the build's id is in the key."),
    key("name", Text, "The name."),
    key("packaging", Choice(&["NONE", "ZIP"]), "Whether they become a ZIP."),
    key("overrideArtifactName", Flag, "Whether the buildspec's name counts."),
    key("encryptionDisabled", Flag, "Whether they are not encrypted."),
    key("artifactIdentifier", Text, "The name among the artifacts."),
    key("bucketOwnerAccess", Text, "What the bucket's owner may."),
];

const CACHE: &[LanguageKey] = &[
    key("type", Choice(&["NO_CACHE", "S3", "LOCAL"]), "Where it is."),
    key("location", Text, "Bucket and prefix."),
    key("modes", Texts, "What is kept locally."),
    key("cacheNamespace", Text, "Whose caches it shares."),
];

const LOGS: &[LanguageKey] = &[
    key(
        "cloudWatchLogs",
        Map(&[
            required("status", Choice(&["ENABLED", "DISABLED"]), "Whether they go there."),
            key("groupName", Text, "The log group."),
            key("streamName", Text, "What the stream's name begins with."),
        ]),
        "CloudWatch Logs.",
    ),
    key(
        "s3Logs",
        Map(&[
            required("status", Choice(&["ENABLED", "DISABLED"]), "Whether they go there."),
            key("location", Text, "Bucket and prefix."),
            key("encryptionDisabled", Flag, "Whether they are not encrypted."),
            key("bucketOwnerAccess", Text, "What the bucket's owner may."),
        ]),
        "S3.",
    ),
];

const ENVIRONMENT: &[LanguageKey] = &[
    key(
        "type",
        Choice(&[
            "LINUX_CONTAINER",
            "LINUX_GPU_CONTAINER",
            "ARM_CONTAINER",
            "LINUX_LAMBDA_CONTAINER",
            "ARM_LAMBDA_CONTAINER",
            "LINUX_EC2",
            "ARM_EC2",
            "WINDOWS_CONTAINER",
            "WINDOWS_SERVER_2019_CONTAINER",
            "WINDOWS_SERVER_2022_CONTAINER",
            "WINDOWS_EC2",
            "MAC_ARM",
        ]),
        "The kind of machine.",
    ),
    key("image", Text, "The image."),
    key("computeType", Text, "The size of the machine."),
    key(
        "computeConfiguration",
        Map(&[
            key("vCpu", Count, "Processors."),
            key("memory", Count, "Memory in GiB."),
            key("disk", Count, "Disk in GB."),
            key("machineType", Text, "The machine type."),
            key("instanceType", Text, "The instance type."),
        ]),
        "The size of the machine in numbers.",
    ),
    key("fleet", Map(&[key("fleetArn", Text, "Its long name.")]), "The fleet."),
    key(
        "environmentVariables",
        Maps(&[
            required("name", Text, "The name."),
            required("value", Text, "The value, or where it is."),
            key(
                "type",
                Choice(&["PLAINTEXT", "PARAMETER_STORE", "SECRETS_MANAGER"]),
                "Which of both.",
            ),
        ]),
        "Variables of builds.",
    ),
    key("privilegedMode", Flag, "Whether builds may run a Docker daemon."),
    key("certificate", Text, "A certificate on S3."),
    key("registryCredential", Any, "Credentials of a registry."),
    key("imagePullCredentialsType", Text, "Whose credentials pull the image."),
    key("dockerServer", Any, "A Docker server for builds."),
    key("hostKernel", Text, "The kernel."),
];
