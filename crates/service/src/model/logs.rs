//! Inputs of CloudWatch Logs, as far as logs are read here. A test holds them against AWS's own description.

use super::shape::{Pattern, Shape, list, matching, number, optional, required, text};
use Shape::{Choice, Flag, Record};

/// The inputs of operations.
pub(super) const INPUTS: &[(&str, &Shape)] = &[
    ("DescribeLogGroups", &DESCRIBE_LOG_GROUPS_REQUEST),
    ("DescribeLogStreams", &DESCRIBE_LOG_STREAMS_REQUEST),
    ("GetLogEvents", &GET_LOG_EVENTS_REQUEST),
    ("FilterLogEvents", &FILTER_LOG_EVENTS_REQUEST),
];

const ACCOUNT_ID: Shape = matching(12, 12, Pattern::Account);
const ACCOUNT_IDS: Shape = list(&ACCOUNT_ID, 0, 20);
const DESCENDING: Shape = Flag;
const DESCRIBE_LIMIT: Shape = number(1, 50);
const DESCRIBE_LOG_GROUPS_LOG_GROUP_IDENTIFIERS: Shape = list(&LOG_GROUP_IDENTIFIER, 1, 50);
const DESCRIBE_LOG_GROUPS_REQUEST: Shape = Record(&[
    optional("accountIdentifiers", &ACCOUNT_IDS),
    optional("logGroupNamePrefix", &LOG_GROUP_NAME),
    optional("logGroupNamePattern", &LOG_GROUP_NAME_PATTERN),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &DESCRIBE_LIMIT),
    optional("includeLinkedAccounts", &INCLUDE_LINKED_ACCOUNTS),
    optional("logGroupClass", &LOG_GROUP_CLASS),
    optional("logGroupIdentifiers", &DESCRIBE_LOG_GROUPS_LOG_GROUP_IDENTIFIERS),
]);
const DESCRIBE_LOG_STREAMS_REQUEST: Shape = Record(&[
    optional("logGroupName", &LOG_GROUP_NAME),
    optional("logGroupIdentifier", &LOG_GROUP_IDENTIFIER),
    optional("logStreamNamePrefix", &LOG_STREAM_NAME),
    optional("orderBy", &ORDER_BY),
    optional("descending", &DESCENDING),
    optional("nextToken", &NEXT_TOKEN),
    optional("limit", &DESCRIBE_LIMIT),
]);
const EVENTS_LIMIT: Shape = number(1, 10000);
const FILTER_LOG_EVENTS_REQUEST: Shape = Record(&[
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
const FILTER_PATTERN: Shape = text(0, 1024);
const GET_LOG_EVENTS_REQUEST: Shape = Record(&[
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
const INCLUDE_LINKED_ACCOUNTS: Shape = Flag;
const INPUT_LOG_STREAM_NAMES: Shape = list(&LOG_STREAM_NAME, 1, 100);
const INTERLEAVED: Shape = Flag;
const LOG_GROUP_CLASS: Shape = Choice(&["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"]);
const LOG_GROUP_IDENTIFIER: Shape = matching(1, 2048, Pattern::LogGroupIdentifier);
const LOG_GROUP_NAME: Shape = matching(1, 512, Pattern::LogGroup);
const LOG_GROUP_NAME_PATTERN: Shape = matching(0, 512, Pattern::LogGroupPart);
const LOG_STREAM_NAME: Shape = matching(1, 512, Pattern::LogStream);
const NEXT_TOKEN: Shape = text(1, usize::MAX);
const ORDER_BY: Shape = Choice(&["LogStreamName", "LastEventTime"]);
const START_FROM_HEAD: Shape = Flag;
const TIMESTAMP: Shape = number(0, i64::MAX);
const UNMASK: Shape = Flag;
