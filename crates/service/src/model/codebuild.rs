//! Inputs of CodeBuild, member by member, from AWS's own description. A test compares the two.

use super::shape::{MemberShape, TextPattern, list, matching, number, optional, required, text};
use MemberShape::{Choice, Flag, Real, Record};

/// Inputs by operation.
pub(super) const INPUTS: &[(&str, &MemberShape)] = &[
    ("CreateProject", &CREATE_PROJECT_INPUT),
    ("UpdateProject", &UPDATE_PROJECT_INPUT),
    ("DeleteProject", &DELETE_PROJECT_INPUT),
    ("BatchGetProjects", &BATCH_GET_PROJECTS_INPUT),
    ("ListProjects", &LIST_PROJECTS_INPUT),
    ("InvalidateProjectCache", &INVALIDATE_PROJECT_CACHE_INPUT),
    ("UpdateProjectVisibility", &UPDATE_PROJECT_VISIBILITY_INPUT),
    ("StartBuild", &START_BUILD_INPUT),
    ("StopBuild", &STOP_BUILD_INPUT),
    ("RetryBuild", &RETRY_BUILD_INPUT),
    ("BatchGetBuilds", &BATCH_GET_BUILDS_INPUT),
    ("BatchDeleteBuilds", &BATCH_DELETE_BUILDS_INPUT),
    ("ListBuilds", &LIST_BUILDS_INPUT),
    ("ListBuildsForProject", &LIST_BUILDS_FOR_PROJECT_INPUT),
    ("StartBuildBatch", &START_BUILD_BATCH_INPUT),
    ("StopBuildBatch", &STOP_BUILD_BATCH_INPUT),
    ("RetryBuildBatch", &RETRY_BUILD_BATCH_INPUT),
    ("BatchGetBuildBatches", &BATCH_GET_BUILD_BATCHES_INPUT),
    ("ListBuildBatches", &LIST_BUILD_BATCHES_INPUT),
    ("ListBuildBatchesForProject", &LIST_BUILD_BATCHES_FOR_PROJECT_INPUT),
    ("DeleteBuildBatch", &DELETE_BUILD_BATCH_INPUT),
    ("ListCuratedEnvironmentImages", &LIST_CURATED_ENVIRONMENT_IMAGES_INPUT),
    ("ListSharedProjects", &LIST_SHARED_PROJECTS_INPUT),
    ("ListSharedReportGroups", &LIST_SHARED_REPORT_GROUPS_INPUT),
    ("GetResourcePolicy", &GET_RESOURCE_POLICY_INPUT),
    ("DeleteResourcePolicy", &DELETE_RESOURCE_POLICY_INPUT),
    ("ListSourceCredentials", &LIST_SOURCE_CREDENTIALS_INPUT),
    ("DeleteSourceCredentials", &DELETE_SOURCE_CREDENTIALS_INPUT),
    ("PutResourcePolicy", &PUT_RESOURCE_POLICY_INPUT),
    ("CreateFleet", &CREATE_FLEET_INPUT),
    ("UpdateFleet", &UPDATE_FLEET_INPUT),
    ("DeleteFleet", &DELETE_FLEET_INPUT),
    ("ListFleets", &LIST_FLEETS_INPUT),
    ("BatchGetFleets", &BATCH_GET_FLEETS_INPUT),
];

const ARTIFACT_NAMESPACE: MemberShape = Choice(&["NONE", "BUILD_ID"]);
const ARTIFACT_PACKAGING: MemberShape = Choice(&["NONE", "ZIP"]);
const ARTIFACTS_TYPE: MemberShape = Choice(&["CODEPIPELINE", "S3", "NO_ARTIFACTS"]);
const BATCH_DELETE_BUILDS_INPUT: MemberShape = Record(&[required("ids", &BUILD_IDS)]);
const BATCH_GET_BUILD_BATCHES_INPUT: MemberShape = Record(&[required("ids", &BUILD_BATCH_IDS)]);
const BATCH_GET_BUILDS_INPUT: MemberShape = Record(&[required("ids", &BUILD_IDS)]);
const BATCH_GET_FLEETS_INPUT: MemberShape = Record(&[required("names", &FLEET_NAMES)]);
const BATCH_GET_PROJECTS_INPUT: MemberShape = Record(&[required("names", &PROJECT_NAMES)]);
const BATCH_REPORT_MODE_TYPE: MemberShape =
    Choice(&["REPORT_INDIVIDUAL_BUILDS", "REPORT_AGGREGATED_BATCH"]);
const BATCH_RESTRICTIONS: MemberShape = Record(&[
    optional("maximumBuildsAllowed", &WRAPPER_INT),
    optional("computeTypesAllowed", &COMPUTE_TYPES_ALLOWED),
    optional("fleetsAllowed", &FLEETS_ALLOWED),
]);
const BUCKET_OWNER_ACCESS: MemberShape = Choice(&["NONE", "READ_ONLY", "FULL"]);
const BUILD_BATCH_FILTER: MemberShape = Record(&[optional("status", &STATUS_TYPE)]);
const BUILD_BATCH_IDS: MemberShape = list(&NON_EMPTY_STRING, 0, 100);
const BUILD_IDS: MemberShape = list(&NON_EMPTY_STRING, 1, 100);
const BUILD_STATUS_CONFIG: MemberShape =
    Record(&[optional("context", &STRING), optional("targetUrl", &STRING)]);
const BUILD_TIME_OUT: MemberShape = number(5, 2160);
const CACHE_MODE: MemberShape =
    Choice(&["LOCAL_DOCKER_LAYER_CACHE", "LOCAL_SOURCE_CACHE", "LOCAL_CUSTOM_CACHE"]);
const CACHE_TYPE: MemberShape = Choice(&["NO_CACHE", "S3", "LOCAL"]);
const CLOUD_WATCH_LOGS_CONFIG: MemberShape = Record(&[
    required("status", &LOGS_CONFIG_STATUS_TYPE),
    optional("groupName", &STRING),
    optional("streamName", &STRING),
]);
const COMPUTE_CONFIGURATION: MemberShape = Record(&[
    optional("vCpu", &WRAPPER_LONG),
    optional("memory", &WRAPPER_LONG),
    optional("disk", &WRAPPER_LONG),
    optional("machineType", &MACHINE_TYPE),
    optional("instanceType", &NON_EMPTY_STRING),
]);
const COMPUTE_TYPE: MemberShape = Choice(&[
    "BUILD_GENERAL1_SMALL",
    "BUILD_GENERAL1_MEDIUM",
    "BUILD_GENERAL1_LARGE",
    "BUILD_GENERAL1_XLARGE",
    "BUILD_GENERAL1_2XLARGE",
    "BUILD_LAMBDA_1GB",
    "BUILD_LAMBDA_2GB",
    "BUILD_LAMBDA_4GB",
    "BUILD_LAMBDA_8GB",
    "BUILD_LAMBDA_10GB",
    "ATTRIBUTE_BASED_COMPUTE",
    "CUSTOM_INSTANCE_TYPE",
]);
const COMPUTE_TYPES_ALLOWED: MemberShape = list(&NON_EMPTY_STRING, 0, usize::MAX);
const CREATE_FLEET_INPUT: MemberShape = Record(&[
    required("name", &FLEET_NAME),
    required("baseCapacity", &FLEET_CAPACITY),
    required("environmentType", &ENVIRONMENT_TYPE),
    required("computeType", &COMPUTE_TYPE),
    optional("computeConfiguration", &COMPUTE_CONFIGURATION),
    optional("scalingConfiguration", &SCALING_CONFIGURATION_INPUT),
    optional("overflowBehavior", &FLEET_OVERFLOW_BEHAVIOR),
    optional("vpcConfig", &VPC_CONFIG),
    optional("proxyConfiguration", &PROXY_CONFIGURATION),
    optional("imageId", &NON_EMPTY_STRING),
    optional("fleetServiceRole", &NON_EMPTY_STRING),
    optional("tags", &TAG_LIST),
]);
const CREATE_PROJECT_INPUT: MemberShape = Record(&[
    required("name", &PROJECT_NAME),
    optional("description", &PROJECT_DESCRIPTION),
    required("source", &PROJECT_SOURCE),
    optional("secondarySources", &PROJECT_SOURCES),
    optional("sourceVersion", &STRING),
    optional("secondarySourceVersions", &PROJECT_SECONDARY_SOURCE_VERSIONS),
    required("artifacts", &PROJECT_ARTIFACTS),
    optional("secondaryArtifacts", &PROJECT_ARTIFACTS_LIST),
    optional("cache", &PROJECT_CACHE),
    required("environment", &PROJECT_ENVIRONMENT),
    required("serviceRole", &NON_EMPTY_STRING),
    optional("timeoutInMinutes", &BUILD_TIME_OUT),
    optional("queuedTimeoutInMinutes", &TIME_OUT),
    optional("encryptionKey", &NON_EMPTY_STRING),
    optional("tags", &TAG_LIST),
    optional("vpcConfig", &VPC_CONFIG),
    optional("badgeEnabled", &WRAPPER_BOOLEAN),
    optional("logsConfig", &LOGS_CONFIG),
    optional("fileSystemLocations", &PROJECT_FILE_SYSTEM_LOCATIONS),
    optional("buildBatchConfig", &PROJECT_BUILD_BATCH_CONFIG),
    optional("concurrentBuildLimit", &WRAPPER_INT),
    optional("autoRetryLimit", &WRAPPER_INT),
]);
const CREDENTIAL_PROVIDER_TYPE: MemberShape = Choice(&["SECRETS_MANAGER"]);
const DELETE_BUILD_BATCH_INPUT: MemberShape = Record(&[required("id", &NON_EMPTY_STRING)]);
const DELETE_FLEET_INPUT: MemberShape = Record(&[required("arn", &NON_EMPTY_STRING)]);
const DELETE_PROJECT_INPUT: MemberShape = Record(&[required("name", &NON_EMPTY_STRING)]);
const DELETE_RESOURCE_POLICY_INPUT: MemberShape =
    Record(&[required("resourceArn", &NON_EMPTY_STRING)]);
const DELETE_SOURCE_CREDENTIALS_INPUT: MemberShape = Record(&[required("arn", &NON_EMPTY_STRING)]);
const DOCKER_SERVER: MemberShape = Record(&[
    required("computeType", &COMPUTE_TYPE),
    optional("securityGroupIds", &SECURITY_GROUP_IDS),
    optional("status", &DOCKER_SERVER_STATUS),
]);
const DOCKER_SERVER_STATUS: MemberShape =
    Record(&[optional("status", &STRING), optional("message", &STRING)]);
const ENVIRONMENT_TYPE: MemberShape = Choice(&[
    "WINDOWS_CONTAINER",
    "LINUX_CONTAINER",
    "LINUX_GPU_CONTAINER",
    "ARM_CONTAINER",
    "WINDOWS_SERVER_2019_CONTAINER",
    "WINDOWS_SERVER_2022_CONTAINER",
    "LINUX_LAMBDA_CONTAINER",
    "ARM_LAMBDA_CONTAINER",
    "LINUX_EC2",
    "ARM_EC2",
    "WINDOWS_EC2",
    "MAC_ARM",
]);
const ENVIRONMENT_VARIABLE: MemberShape = Record(&[
    required("name", &NON_EMPTY_STRING),
    required("value", &STRING),
    optional("type", &ENVIRONMENT_VARIABLE_TYPE),
]);
const ENVIRONMENT_VARIABLE_TYPE: MemberShape =
    Choice(&["PLAINTEXT", "PARAMETER_STORE", "SECRETS_MANAGER"]);
const ENVIRONMENT_VARIABLES: MemberShape = list(&ENVIRONMENT_VARIABLE, 0, usize::MAX);
const FILE_SYSTEM_TYPE: MemberShape = Choice(&["EFS"]);
const FLEET_CAPACITY: MemberShape = number(i64::MIN, i64::MAX);
const FLEET_NAME: MemberShape = matching(2, 128, TextPattern::FleetName);
const FLEET_NAMES: MemberShape = list(&NON_EMPTY_STRING, 1, 100);
const FLEET_OVERFLOW_BEHAVIOR: MemberShape = Choice(&["QUEUE", "ON_DEMAND"]);
const FLEET_PROXY_RULE: MemberShape = Record(&[
    required("type", &FLEET_PROXY_RULE_TYPE),
    required("effect", &FLEET_PROXY_RULE_EFFECT_TYPE),
    required("entities", &FLEET_PROXY_RULE_ENTITIES),
]);
const FLEET_PROXY_RULE_BEHAVIOR: MemberShape = Choice(&["ALLOW_ALL", "DENY_ALL"]);
const FLEET_PROXY_RULE_EFFECT_TYPE: MemberShape = Choice(&["ALLOW", "DENY"]);
const FLEET_PROXY_RULE_ENTITIES: MemberShape = list(&STRING, 1, 100);
const FLEET_PROXY_RULE_TYPE: MemberShape = Choice(&["DOMAIN", "IP"]);
const FLEET_PROXY_RULES: MemberShape = list(&FLEET_PROXY_RULE, 0, 100);
const FLEET_SCALING_METRIC_TYPE: MemberShape = Choice(&["FLEET_UTILIZATION_RATE"]);
const FLEET_SCALING_TYPE: MemberShape = Choice(&["TARGET_TRACKING_SCALING"]);
const FLEET_SORT_BY_TYPE: MemberShape = Choice(&["NAME", "CREATED_TIME", "LAST_MODIFIED_TIME"]);
const FLEETS_ALLOWED: MemberShape = list(&NON_EMPTY_STRING, 0, usize::MAX);
const GET_RESOURCE_POLICY_INPUT: MemberShape =
    Record(&[required("resourceArn", &NON_EMPTY_STRING)]);
const GIT_CLONE_DEPTH: MemberShape = number(0, i64::MAX);
const GIT_SUBMODULES_CONFIG: MemberShape = Record(&[required("fetchSubmodules", &WRAPPER_BOOLEAN)]);
const HOST_KERNEL: MemberShape =
    Choice(&["LINUX_KERNEL_4", "LINUX_KERNEL_6", "LINUX_KERNEL_LATEST"]);
const IMAGE_PULL_CREDENTIALS_TYPE: MemberShape = Choice(&["CODEBUILD", "SERVICE_ROLE"]);
const INVALIDATE_PROJECT_CACHE_INPUT: MemberShape =
    Record(&[required("projectName", &NON_EMPTY_STRING)]);
const KEY_INPUT: MemberShape = matching(1, 127, TextPattern::Tag);
const LIST_BUILD_BATCHES_FOR_PROJECT_INPUT: MemberShape = Record(&[
    optional("projectName", &NON_EMPTY_STRING),
    optional("filter", &BUILD_BATCH_FILTER),
    optional("maxResults", &PAGE_SIZE),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("nextToken", &STRING),
]);
const LIST_BUILD_BATCHES_INPUT: MemberShape = Record(&[
    optional("filter", &BUILD_BATCH_FILTER),
    optional("maxResults", &PAGE_SIZE),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("nextToken", &STRING),
]);
const LIST_BUILDS_FOR_PROJECT_INPUT: MemberShape = Record(&[
    required("projectName", &NON_EMPTY_STRING),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("nextToken", &STRING),
]);
const LIST_BUILDS_INPUT: MemberShape =
    Record(&[optional("sortOrder", &SORT_ORDER_TYPE), optional("nextToken", &STRING)]);
const LIST_CURATED_ENVIRONMENT_IMAGES_INPUT: MemberShape = Record(&[]);
const LIST_FLEETS_INPUT: MemberShape = Record(&[
    optional("nextToken", &SENSITIVE_STRING),
    optional("maxResults", &PAGE_SIZE),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("sortBy", &FLEET_SORT_BY_TYPE),
]);
const LIST_PROJECTS_INPUT: MemberShape = Record(&[
    optional("sortBy", &PROJECT_SORT_BY_TYPE),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("nextToken", &NON_EMPTY_STRING),
]);
const LIST_SHARED_PROJECTS_INPUT: MemberShape = Record(&[
    optional("sortBy", &SHARED_RESOURCE_SORT_BY_TYPE),
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("maxResults", &PAGE_SIZE),
    optional("nextToken", &NON_EMPTY_STRING),
]);
const LIST_SHARED_REPORT_GROUPS_INPUT: MemberShape = Record(&[
    optional("sortOrder", &SORT_ORDER_TYPE),
    optional("sortBy", &SHARED_RESOURCE_SORT_BY_TYPE),
    optional("nextToken", &STRING),
    optional("maxResults", &PAGE_SIZE),
]);
const LIST_SOURCE_CREDENTIALS_INPUT: MemberShape = Record(&[]);
const LOGS_CONFIG: MemberShape = Record(&[
    optional("cloudWatchLogs", &CLOUD_WATCH_LOGS_CONFIG),
    optional("s3Logs", &S3_LOGS_CONFIG),
]);
const LOGS_CONFIG_STATUS_TYPE: MemberShape = Choice(&["ENABLED", "DISABLED"]);
const MACHINE_TYPE: MemberShape = Choice(&["GENERAL", "NVME"]);
const NON_EMPTY_STRING: MemberShape = text(1, usize::MAX);
const PAGE_SIZE: MemberShape = number(1, 100);
const PROJECT_ARTIFACTS: MemberShape = Record(&[
    required("type", &ARTIFACTS_TYPE),
    optional("location", &STRING),
    optional("path", &STRING),
    optional("namespaceType", &ARTIFACT_NAMESPACE),
    optional("name", &STRING),
    optional("packaging", &ARTIFACT_PACKAGING),
    optional("overrideArtifactName", &WRAPPER_BOOLEAN),
    optional("encryptionDisabled", &WRAPPER_BOOLEAN),
    optional("artifactIdentifier", &STRING),
    optional("bucketOwnerAccess", &BUCKET_OWNER_ACCESS),
]);
const PROJECT_ARTIFACTS_LIST: MemberShape = list(&PROJECT_ARTIFACTS, 0, 12);
const PROJECT_BUILD_BATCH_CONFIG: MemberShape = Record(&[
    optional("serviceRole", &NON_EMPTY_STRING),
    optional("combineArtifacts", &WRAPPER_BOOLEAN),
    optional("restrictions", &BATCH_RESTRICTIONS),
    optional("timeoutInMins", &WRAPPER_INT),
    optional("batchReportMode", &BATCH_REPORT_MODE_TYPE),
]);
const PROJECT_CACHE: MemberShape = Record(&[
    required("type", &CACHE_TYPE),
    optional("location", &STRING),
    optional("modes", &PROJECT_CACHE_MODES),
    optional("cacheNamespace", &STRING),
]);
const PROJECT_CACHE_MODES: MemberShape = list(&CACHE_MODE, 0, usize::MAX);
const PROJECT_DESCRIPTION: MemberShape = text(0, 255);
const PROJECT_ENVIRONMENT: MemberShape = Record(&[
    required("type", &ENVIRONMENT_TYPE),
    required("image", &NON_EMPTY_STRING),
    required("computeType", &COMPUTE_TYPE),
    optional("computeConfiguration", &COMPUTE_CONFIGURATION),
    optional("fleet", &PROJECT_FLEET),
    optional("environmentVariables", &ENVIRONMENT_VARIABLES),
    optional("privilegedMode", &WRAPPER_BOOLEAN),
    optional("certificate", &STRING),
    optional("registryCredential", &REGISTRY_CREDENTIAL),
    optional("imagePullCredentialsType", &IMAGE_PULL_CREDENTIALS_TYPE),
    optional("dockerServer", &DOCKER_SERVER),
    optional("hostKernel", &HOST_KERNEL),
]);
const PROJECT_FILE_SYSTEM_LOCATION: MemberShape = Record(&[
    optional("type", &FILE_SYSTEM_TYPE),
    optional("location", &STRING),
    optional("mountPoint", &STRING),
    optional("identifier", &STRING),
    optional("mountOptions", &STRING),
]);
const PROJECT_FILE_SYSTEM_LOCATIONS: MemberShape =
    list(&PROJECT_FILE_SYSTEM_LOCATION, 0, usize::MAX);
const PROJECT_FLEET: MemberShape = Record(&[optional("fleetArn", &STRING)]);
const PROJECT_NAME: MemberShape = matching(2, 150, TextPattern::ProjectName);
const PROJECT_NAMES: MemberShape = list(&NON_EMPTY_STRING, 1, 100);
const PROJECT_SECONDARY_SOURCE_VERSIONS: MemberShape = list(&PROJECT_SOURCE_VERSION, 0, 12);
const PROJECT_SORT_BY_TYPE: MemberShape = Choice(&["NAME", "CREATED_TIME", "LAST_MODIFIED_TIME"]);
const PROJECT_SOURCE: MemberShape = Record(&[
    required("type", &SOURCE_TYPE),
    optional("location", &STRING),
    optional("gitCloneDepth", &GIT_CLONE_DEPTH),
    optional("gitSubmodulesConfig", &GIT_SUBMODULES_CONFIG),
    optional("buildspec", &STRING),
    optional("auth", &SOURCE_AUTH),
    optional("reportBuildStatus", &WRAPPER_BOOLEAN),
    optional("buildStatusConfig", &BUILD_STATUS_CONFIG),
    optional("insecureSsl", &WRAPPER_BOOLEAN),
    optional("sourceIdentifier", &STRING),
]);
const PROJECT_SOURCE_VERSION: MemberShape =
    Record(&[required("sourceIdentifier", &STRING), required("sourceVersion", &STRING)]);
const PROJECT_SOURCES: MemberShape = list(&PROJECT_SOURCE, 0, 12);
const PROJECT_VISIBILITY_TYPE: MemberShape = Choice(&["PUBLIC_READ", "PRIVATE"]);
const PROXY_CONFIGURATION: MemberShape = Record(&[
    optional("defaultBehavior", &FLEET_PROXY_RULE_BEHAVIOR),
    optional("orderedProxyRules", &FLEET_PROXY_RULES),
]);
const PUT_RESOURCE_POLICY_INPUT: MemberShape =
    Record(&[required("policy", &NON_EMPTY_STRING), required("resourceArn", &NON_EMPTY_STRING)]);
const REGISTRY_CREDENTIAL: MemberShape = Record(&[
    required("credential", &NON_EMPTY_STRING),
    required("credentialProvider", &CREDENTIAL_PROVIDER_TYPE),
]);
const RETRY_BUILD_BATCH_INPUT: MemberShape = Record(&[
    optional("id", &NON_EMPTY_STRING),
    optional("idempotencyToken", &STRING),
    optional("retryType", &Choice(&["RETRY_ALL_BUILDS", "RETRY_FAILED_BUILDS"])),
]);
const RETRY_BUILD_INPUT: MemberShape =
    Record(&[optional("id", &NON_EMPTY_STRING), optional("idempotencyToken", &STRING)]);
const S3_LOGS_CONFIG: MemberShape = Record(&[
    required("status", &LOGS_CONFIG_STATUS_TYPE),
    optional("location", &STRING),
    optional("encryptionDisabled", &WRAPPER_BOOLEAN),
    optional("bucketOwnerAccess", &BUCKET_OWNER_ACCESS),
]);
const SCALING_CONFIGURATION_INPUT: MemberShape = Record(&[
    optional("scalingType", &FLEET_SCALING_TYPE),
    optional("targetTrackingScalingConfigs", &TARGET_TRACKING_SCALING_CONFIGURATIONS),
    optional("maxCapacity", &FLEET_CAPACITY),
]);
const SECURITY_GROUP_IDS: MemberShape = list(&NON_EMPTY_STRING, 0, 5);
const SENSITIVE_STRING: MemberShape = text(0, usize::MAX);
const SHARED_RESOURCE_SORT_BY_TYPE: MemberShape = Choice(&["ARN", "MODIFIED_TIME"]);
const SORT_ORDER_TYPE: MemberShape = Choice(&["ASCENDING", "DESCENDING"]);
const SOURCE_AUTH: MemberShape =
    Record(&[required("type", &SOURCE_AUTH_TYPE), optional("resource", &STRING)]);
const SOURCE_AUTH_TYPE: MemberShape = Choice(&["OAUTH", "CODECONNECTIONS", "SECRETS_MANAGER"]);
const SOURCE_TYPE: MemberShape = Choice(&[
    "CODECOMMIT",
    "CODEPIPELINE",
    "GITHUB",
    "GITLAB",
    "GITLAB_SELF_MANAGED",
    "S3",
    "BITBUCKET",
    "GITHUB_ENTERPRISE",
    "NO_SOURCE",
]);
const START_BUILD_BATCH_INPUT: MemberShape = Record(&[
    required("projectName", &NON_EMPTY_STRING),
    optional("secondarySourcesOverride", &PROJECT_SOURCES),
    optional("secondarySourcesVersionOverride", &PROJECT_SECONDARY_SOURCE_VERSIONS),
    optional("sourceVersion", &STRING),
    optional("artifactsOverride", &PROJECT_ARTIFACTS),
    optional("secondaryArtifactsOverride", &PROJECT_ARTIFACTS_LIST),
    optional("environmentVariablesOverride", &ENVIRONMENT_VARIABLES),
    optional("sourceTypeOverride", &SOURCE_TYPE),
    optional("sourceLocationOverride", &STRING),
    optional("sourceAuthOverride", &SOURCE_AUTH),
    optional("gitCloneDepthOverride", &GIT_CLONE_DEPTH),
    optional("gitSubmodulesConfigOverride", &GIT_SUBMODULES_CONFIG),
    optional("buildspecOverride", &STRING),
    optional("insecureSslOverride", &WRAPPER_BOOLEAN),
    optional("reportBuildBatchStatusOverride", &WRAPPER_BOOLEAN),
    optional("environmentTypeOverride", &ENVIRONMENT_TYPE),
    optional("imageOverride", &NON_EMPTY_STRING),
    optional("computeTypeOverride", &COMPUTE_TYPE),
    optional("certificateOverride", &STRING),
    optional("cacheOverride", &PROJECT_CACHE),
    optional("serviceRoleOverride", &NON_EMPTY_STRING),
    optional("privilegedModeOverride", &WRAPPER_BOOLEAN),
    optional("buildTimeoutInMinutesOverride", &BUILD_TIME_OUT),
    optional("queuedTimeoutInMinutesOverride", &TIME_OUT),
    optional("encryptionKeyOverride", &NON_EMPTY_STRING),
    optional("idempotencyToken", &STRING),
    optional("logsConfigOverride", &LOGS_CONFIG),
    optional("registryCredentialOverride", &REGISTRY_CREDENTIAL),
    optional("imagePullCredentialsTypeOverride", &IMAGE_PULL_CREDENTIALS_TYPE),
    optional("buildBatchConfigOverride", &PROJECT_BUILD_BATCH_CONFIG),
    optional("debugSessionEnabled", &WRAPPER_BOOLEAN),
]);
const START_BUILD_INPUT: MemberShape = Record(&[
    required("projectName", &NON_EMPTY_STRING),
    optional("secondarySourcesOverride", &PROJECT_SOURCES),
    optional("secondarySourcesVersionOverride", &PROJECT_SECONDARY_SOURCE_VERSIONS),
    optional("sourceVersion", &STRING),
    optional("artifactsOverride", &PROJECT_ARTIFACTS),
    optional("secondaryArtifactsOverride", &PROJECT_ARTIFACTS_LIST),
    optional("environmentVariablesOverride", &ENVIRONMENT_VARIABLES),
    optional("sourceTypeOverride", &SOURCE_TYPE),
    optional("sourceLocationOverride", &STRING),
    optional("sourceAuthOverride", &SOURCE_AUTH),
    optional("gitCloneDepthOverride", &GIT_CLONE_DEPTH),
    optional("gitSubmodulesConfigOverride", &GIT_SUBMODULES_CONFIG),
    optional("buildspecOverride", &STRING),
    optional("insecureSslOverride", &WRAPPER_BOOLEAN),
    optional("reportBuildStatusOverride", &WRAPPER_BOOLEAN),
    optional("buildStatusConfigOverride", &BUILD_STATUS_CONFIG),
    optional("environmentTypeOverride", &ENVIRONMENT_TYPE),
    optional("imageOverride", &NON_EMPTY_STRING),
    optional("computeTypeOverride", &COMPUTE_TYPE),
    optional("certificateOverride", &STRING),
    optional("cacheOverride", &PROJECT_CACHE),
    optional("serviceRoleOverride", &NON_EMPTY_STRING),
    optional("privilegedModeOverride", &WRAPPER_BOOLEAN),
    optional("timeoutInMinutesOverride", &BUILD_TIME_OUT),
    optional("queuedTimeoutInMinutesOverride", &TIME_OUT),
    optional("encryptionKeyOverride", &NON_EMPTY_STRING),
    optional("idempotencyToken", &STRING),
    optional("logsConfigOverride", &LOGS_CONFIG),
    optional("registryCredentialOverride", &REGISTRY_CREDENTIAL),
    optional("imagePullCredentialsTypeOverride", &IMAGE_PULL_CREDENTIALS_TYPE),
    optional("debugSessionEnabled", &WRAPPER_BOOLEAN),
    optional("fleetOverride", &PROJECT_FLEET),
    optional("autoRetryLimitOverride", &WRAPPER_INT),
    optional("hostKernelOverride", &HOST_KERNEL),
]);
const STOP_BUILD_BATCH_INPUT: MemberShape = Record(&[required("id", &NON_EMPTY_STRING)]);
const STOP_BUILD_INPUT: MemberShape = Record(&[required("id", &NON_EMPTY_STRING)]);
const STATUS_TYPE: MemberShape =
    Choice(&["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "IN_PROGRESS", "STOPPED"]);
const STRING: MemberShape = text(0, usize::MAX);
const SUBNETS: MemberShape = list(&NON_EMPTY_STRING, 0, 16);
const TAG: MemberShape = Record(&[optional("key", &KEY_INPUT), optional("value", &VALUE_INPUT)]);
const TAG_LIST: MemberShape = list(&TAG, 0, 50);
const TARGET_TRACKING_SCALING_CONFIGURATION: MemberShape = Record(&[
    optional("metricType", &FLEET_SCALING_METRIC_TYPE),
    optional("targetValue", &WRAPPER_DOUBLE),
]);
const TARGET_TRACKING_SCALING_CONFIGURATIONS: MemberShape =
    list(&TARGET_TRACKING_SCALING_CONFIGURATION, 0, usize::MAX);
const TIME_OUT: MemberShape = number(5, 480);
const UPDATE_FLEET_INPUT: MemberShape = Record(&[
    required("arn", &NON_EMPTY_STRING),
    optional("baseCapacity", &FLEET_CAPACITY),
    optional("environmentType", &ENVIRONMENT_TYPE),
    optional("computeType", &COMPUTE_TYPE),
    optional("computeConfiguration", &COMPUTE_CONFIGURATION),
    optional("scalingConfiguration", &SCALING_CONFIGURATION_INPUT),
    optional("overflowBehavior", &FLEET_OVERFLOW_BEHAVIOR),
    optional("vpcConfig", &VPC_CONFIG),
    optional("proxyConfiguration", &PROXY_CONFIGURATION),
    optional("imageId", &NON_EMPTY_STRING),
    optional("fleetServiceRole", &NON_EMPTY_STRING),
    optional("tags", &TAG_LIST),
]);
const UPDATE_PROJECT_INPUT: MemberShape = Record(&[
    required("name", &NON_EMPTY_STRING),
    optional("description", &PROJECT_DESCRIPTION),
    optional("source", &PROJECT_SOURCE),
    optional("secondarySources", &PROJECT_SOURCES),
    optional("sourceVersion", &STRING),
    optional("secondarySourceVersions", &PROJECT_SECONDARY_SOURCE_VERSIONS),
    optional("artifacts", &PROJECT_ARTIFACTS),
    optional("secondaryArtifacts", &PROJECT_ARTIFACTS_LIST),
    optional("cache", &PROJECT_CACHE),
    optional("environment", &PROJECT_ENVIRONMENT),
    optional("serviceRole", &NON_EMPTY_STRING),
    optional("timeoutInMinutes", &BUILD_TIME_OUT),
    optional("queuedTimeoutInMinutes", &TIME_OUT),
    optional("encryptionKey", &NON_EMPTY_STRING),
    optional("tags", &TAG_LIST),
    optional("vpcConfig", &VPC_CONFIG),
    optional("badgeEnabled", &WRAPPER_BOOLEAN),
    optional("logsConfig", &LOGS_CONFIG),
    optional("fileSystemLocations", &PROJECT_FILE_SYSTEM_LOCATIONS),
    optional("buildBatchConfig", &PROJECT_BUILD_BATCH_CONFIG),
    optional("concurrentBuildLimit", &WRAPPER_INT),
    optional("autoRetryLimit", &WRAPPER_INT),
]);
const UPDATE_PROJECT_VISIBILITY_INPUT: MemberShape = Record(&[
    required("projectArn", &NON_EMPTY_STRING),
    required("projectVisibility", &PROJECT_VISIBILITY_TYPE),
    optional("resourceAccessRole", &NON_EMPTY_STRING),
]);
const VALUE_INPUT: MemberShape = matching(0, 255, TextPattern::Tag);
const VPC_CONFIG: MemberShape = Record(&[
    optional("vpcId", &NON_EMPTY_STRING),
    optional("subnets", &SUBNETS),
    optional("securityGroupIds", &SECURITY_GROUP_IDS),
]);
const WRAPPER_BOOLEAN: MemberShape = Flag;
const WRAPPER_DOUBLE: MemberShape = Real;
const WRAPPER_INT: MemberShape = number(i64::MIN, i64::MAX);
const WRAPPER_LONG: MemberShape = number(i64::MIN, i64::MAX);
