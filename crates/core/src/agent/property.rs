//! Every property that AWS's agent reads, and its effect here.

use serde_json::{Value, json};

/// A property of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// `SECTION.NAME`, as in AWS's manual.
    pub name: &'static str,
    pub(super) kind: PropertyKind,
    /// Its effect here.
    pub effect: PropertyEffect,
    pub(super) from_image: FromImage,
}

/// The effect of a property here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyEffect {
    /// The same as in AWS's agent.
    Works,
    /// No effect, for this reason.
    None(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PropertyKind {
    Flag(bool),
    Number {
        default: u64,
        least: u64,
        most: u64,
    },
    Text(&'static str),
    /// One of these values; the first is the default.
    Choice(&'static [&'static str]),
    /// A folder name.
    Folder(&'static str),
    Texts(&'static [&'static str]),
    /// A list of maps.
    Maps,
}

/// How an image's file may change the property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromImage {
    Nothing,
    /// Not at all, and without a notice, because images commonly set it.
    Presence,
    Lower,
    True,
    More,
}

impl Property {
    /// The value if no file sets the property.
    #[must_use]
    pub fn default_value(&self) -> Value {
        match self.kind {
            PropertyKind::Flag(default) => json!(default),
            PropertyKind::Number { default, .. } => json!(default),
            PropertyKind::Text(default) | PropertyKind::Folder(default) => json!(default),
            PropertyKind::Choice(choices) => json!(choices.first()),
            PropertyKind::Texts(default) => json!(default),
            PropertyKind::Maps => json!([]),
        }
    }
}

const ANY: u64 = u64::MAX;

const fn flag(default: bool) -> PropertyKind {
    PropertyKind::Flag(default)
}

const fn number(default: u64, least: u64, most: u64) -> PropertyKind {
    PropertyKind::Number { default, least, most }
}

const fn works(name: &'static str, kind: PropertyKind) -> Property {
    Property { name, kind, effect: PropertyEffect::Works, from_image: FromImage::Nothing }
}

const fn none(name: &'static str, kind: PropertyKind, why: &'static str) -> Property {
    Property { name, kind, effect: PropertyEffect::None(why), from_image: FromImage::Nothing }
}

const fn image(property: Property, from_image: FromImage) -> Property {
    Property { from_image, ..property }
}

const NOT_DIALLED: &str = "agent and service are one program here; nothing is dialled";
const NO_STATE_MANAGER: &str = "there is no State Manager and no inventory";
const NOT_KEPT: &str = "output for AWS is stored until it arrives, at most seven days; \
                        --session-log records sessions here";
const IGNORED_BY_AGENT: &str = "AWS's agent itself ignores it";
const NO_UPDATES: &str = "you update the program the way you installed it";
const NO_TELEMETRY: &str = "there is no telemetry; nothing is sent";
const NO_WORKERS: &str = "there are no worker processes";
const NODE_IS_BUILD: &str = "the node is the build";

/// Addresses to which AWS's agent forwards no port.
const DENIED: &[&str] = &[
    "169.254.169.254",
    "fd00:ec2::254",
    "169.254.169.253",
    "fd00:ec2::253",
    "169.254.169.123",
    "169.254.169.250",
    "169.254.169.251",
    "fd00:ec2::123",
    "fd00:ec2::240",
];

/// All properties, by section.
pub const PROPERTIES: &[Property] = &[
    works("Profile.ShareCreds", flag(true)),
    works("Profile.ShareProfile", PropertyKind::Text("")),
    none("Profile.ForceUpdateCreds", flag(false), "no file with credentials is written"),
    none(
        "Profile.KeyAutoRotateDays",
        number(0, 0, 365),
        "there is no registration key; the machine's key pair is replaced by removing its file",
    ),
    image(works("Mds.CommandWorkersLimit", number(5, 1, ANY)), FromImage::Lower),
    none("Mds.CommandWorkerBufferLimit", number(5, 1, ANY), "the queue of a build holds 50"),
    works("Mds.StopTimeoutMillis", number(20_000, 10_000, 1_000_000)),
    none("Mds.Endpoint", PropertyKind::Text(""), NOT_DIALLED),
    none("Mds.CommandRetryLimit", number(15, 1, 100), "a script is never run twice"),
    none("Ssm.Endpoint", PropertyKind::Text(""), NOT_DIALLED),
    none(
        "Ssm.HealthFrequencyMinutes",
        number(5, 5, 60),
        "whether a build is there is known at any time",
    ),
    none("Ssm.CustomInventoryDefaultLocation", PropertyKind::Text(""), NO_STATE_MANAGER),
    none("Ssm.AssociationFrequencyMinutes", number(10, 5, 60), NO_STATE_MANAGER),
    none("Ssm.AssociationRetryLimit", number(5, 0, ANY), NO_STATE_MANAGER),
    none("Ssm.AssociationLogsRetentionDurationHours", number(24, 8, ANY), NO_STATE_MANAGER),
    works("Ssm.RunCommandLogsRetentionDurationHours", number(336, 8, ANY)),
    none("Ssm.SessionLogsRetentionDurationHours", number(336, 1, ANY), NOT_KEPT),
    none("Ssm.SessionLogsDestination", PropertyKind::Choice(&["none", "disk"]), NOT_KEPT),
    works(
        "Ssm.PluginLocalOutputCleanup",
        PropertyKind::Choice(&["", "after-execution", "after-upload"]),
    ),
    works(
        "Ssm.OrchestrationDirectoryCleanup",
        PropertyKind::Choice(&["", "clean-success", "clean-success-failed"]),
    ),
    none("Mgs.Endpoint", PropertyKind::Text(""), NOT_DIALLED),
    none("Mgs.Region", PropertyKind::Text(""), NOT_DIALLED),
    works("Mgs.StopTimeoutMillis", number(20_000, 0, 1_000_000)),
    image(works("Mgs.SessionWorkersLimit", number(1000, 1, ANY)), FromImage::Lower),
    none("Mgs.SessionWorkerBufferLimit", number(1, 1, ANY), "no session waits for a place"),
    image(works("Mgs.DeniedPortForwardingRemoteIPs", PropertyKind::Texts(DENIED)), FromImage::More),
    works("Agent.Region", PropertyKind::Text("")),
    works("Agent.OrchestrationRootDir", PropertyKind::Folder("orchestration")),
    image(works("Agent.ContainerMode", flag(true)), FromImage::Presence),
    none("Agent.SelfUpdate", flag(false), NO_UPDATES),
    none("Agent.SelfUpdateScheduleDay", number(7, 1, 7), NO_UPDATES),
    none("Agent.TelemetryMetricsToCloudWatch", flag(false), NO_TELEMETRY),
    none("Agent.TelemetryMetricsToSSM", flag(true), NO_TELEMETRY),
    works("Agent.AuditExpirationDay", number(7, 3, 30)),
    none("Agent.LongRunningWorkerMonitorIntervalSeconds", number(60, 30, 1800), NO_WORKERS),
    none("Agent.GoMaxProcForAgentWorker", number(0, 0, ANY), NO_WORKERS),
    none("Agent.ForceFileIPC", flag(false), NO_WORKERS),
    works("Os.Lang", PropertyKind::Text("en-US")),
    works("Os.Name", PropertyKind::Text("linux")),
    works("Os.Version", PropertyKind::Text("1")),
    works("S3.Endpoint", PropertyKind::Text("")),
    none("S3.Region", PropertyKind::Text(""), IGNORED_BY_AGENT),
    none("S3.LogBucket", PropertyKind::Text(""), IGNORED_BY_AGENT),
    none("S3.LogKey", PropertyKind::Text(""), IGNORED_BY_AGENT),
    works("Kms.Endpoint", PropertyKind::Text("")),
    image(works("Kms.RequireKMSChallengeResponse", flag(false)), FromImage::True),
    none(
        "Identity.ConsumptionOrder",
        PropertyKind::Texts(&["OnPrem", "EC2", "CustomIdentity"]),
        NODE_IS_BUILD,
    ),
    none("Identity.CustomIdentities", PropertyKind::Maps, NODE_IS_BUILD),
];
