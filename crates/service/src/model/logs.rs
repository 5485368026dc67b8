//! Inputs of CloudWatch Logs, for the operations supported here. A test compares them with AWS's
//! own description.

use super::shape::{MemberShape, TextPattern, list, matching, number, optional, required, text};
use MemberShape::{Choice, Flag, Record};

/// Inputs by operation.
pub(super) const INPUTS: &[(&str, &MemberShape)] = &[
    ("DescribeLogGroups", &DESCRIBE_LOG_GROUPS_REQUEST),
    ("DescribeLogStreams", &DESCRIBE_LOG_STREAMS_REQUEST),
    ("GetLogEvents", &GET_LOG_EVENTS_REQUEST),
    ("FilterLogEvents", &FILTER_LOG_EVENTS_REQUEST),
];

const ACCOUNT_ID: MemberShape = matching(12, 12, TextPattern::Account);
const ACCOUNT_IDS: MemberShape = list(&ACCOUNT_ID, 0, 20);
const DESCENDING: MemberShape = Flag;
const DESCRIBE_LIMIT: MemberShape = number(1, 50);
const DESCRIBE_LOG_GROUPS_LOG_GROUP_IDENTIFIERS: MemberShape = list(&LOG_GROUP_IDENTIFIER, 1, 50);
const DESCRIBE_LOG_GROUPS_REQUEST: MemberShape = Record(&[
    optional("accountIdentifiers", &ACCOUNT_IDS),
    optional("logGroupNamePrefix", &LOG_GROUP_NAME),
    optional("logGroupNamePattern", &LOG_GROUP_NAME_PATTERN),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &DESCRIBE_LIMIT),
    optional("includeLinkedAccounts", &INCLUDE_LINKED_ACCOUNTS),
    optional("logGroupClass", &LOG_GROUP_CLASS),
    optional("logGroupIdentifiers", &DESCRIBE_LOG_GROUPS_LOG_GROUP_IDENTIFIERS),
]);
const DESCRIBE_LOG_STREAMS_REQUEST: MemberShape = Record(&[
    optional("logGroupName", &LOG_GROUP_NAME),
    optional("logGroupIdentifier", &LOG_GROUP_IDENTIFIER),
    optional("logStreamNamePrefix", &LOG_STREAM_NAME),
    optional("orderBy", &ORDER_BY),
    optional("descending", &DESCENDING),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &DESCRIBE_LIMIT),
]);
const EVENTS_LIMIT: MemberShape = number(1, 10000);
const FILTER_LOG_EVENTS_REQUEST: MemberShape = Record(&[
    optional("logGroupName", &LOG_GROUP_NAME),
    optional("logGroupIdentifier", &LOG_GROUP_IDENTIFIER),
    optional("logStreamNames", &INPUT_LOG_STREAM_NAMES),
    optional("logStreamNamePrefix", &LOG_STREAM_NAME),
    optional("startTime", &TIMESTAMP),
    optional("endTime", &TIMESTAMP),
    optional("filterPattern", &FILTER_PATTERN),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &EVENTS_LIMIT),
    optional("startFromHead", &START_FROM_HEAD),
    optional("interleaved", &INTERLEAVED),
    optional("unmask", &UNMASK),
]);
const FILTER_PATTERN: MemberShape = text(0, 1024);
const GET_LOG_EVENTS_REQUEST: MemberShape = Record(&[
    optional("logGroupName", &LOG_GROUP_NAME),
    optional("logGroupIdentifier", &LOG_GROUP_IDENTIFIER),
    required("logStreamName", &LOG_STREAM_NAME),
    optional("startTime", &TIMESTAMP),
    optional("endTime", &TIMESTAMP),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &EVENTS_LIMIT),
    optional("startFromHead", &START_FROM_HEAD),
    optional("unmask", &UNMASK),
]);
const INCLUDE_LINKED_ACCOUNTS: MemberShape = Flag;
const INPUT_LOG_STREAM_NAMES: MemberShape = list(&LOG_STREAM_NAME, 1, 100);
const INTERLEAVED: MemberShape = Flag;
const LOG_GROUP_CLASS: MemberShape =
    Choice(&["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"]);
const LOG_GROUP_IDENTIFIER: MemberShape = matching(1, 2048, TextPattern::LogGroupIdentifier);
const LOG_GROUP_NAME: MemberShape = matching(1, 512, TextPattern::LogGroup);
const LOG_GROUP_NAME_PATTERN: MemberShape = matching(0, 512, TextPattern::LogGroupPart);
const LOG_STREAM_NAME: MemberShape = matching(1, 512, TextPattern::LogStream);
const NEXT_TOKEN: MemberShape = text(1, usize::MAX);
const ORDER_BY: MemberShape = Choice(&["LogStreamName", "LastEventTime"]);
const START_FROM_HEAD: MemberShape = Flag;
const TIMESTAMP: MemberShape = number(0, i64::MAX);
const UNMASK: MemberShape = Flag;
