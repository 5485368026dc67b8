//! Addresses and retries; requests themselves are tested against a server, end to end.

use super::*;

fn client(region: &str) -> S3Client {
    S3Client::new(&Amazon {
        config: aws_config::SdkConfig::builder().build(),
        client: Err("none is needed".to_owned()),
        region: Some(region.to_owned()),
        found: <_>::default(),
        endpoints: Vec::new(),
    })
}

#[test]
fn buckets_have_names_where_certificates_are_good_for_them() {
    for (region, bucket, key, wanted) in [
        ("eu-west-1", "b", "a/c d+é", "https://b.s3.eu-west-1.amazonaws.com/a/c%20d%2B%C3%A9"),
        ("eu-west-1", "b.c", "k", "https://s3.eu-west-1.amazonaws.com/b.c/k"),
        ("eu-west-1", "b_c", "", "https://s3.eu-west-1.amazonaws.com/b_c/"),
        ("cn-north-1", "b", "k", "https://b.s3.cn-north-1.amazonaws.com.cn/k"),
    ] {
        assert_eq!(client(region).place(bucket, key).expect("an address"), wanted);
    }
    for key in ["..", "a/../b", "a/./b", "a/.."] {
        assert!(client("eu-west-1").place("b", key).is_err(), "{key}");
    }
    assert!(client("eu-west-1").place("b", "a..b/.c//d").is_ok());
}

#[test]
fn what_is_tried_again_is_what_may_pass() {
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    let none = HeaderMap::new();
    for (status, code, may_pass) in [
        (200, "SlowDown", true),
        (200, "AccessDenied", false),
        (503, "SlowDown", true),
        (500, "", true),
        (400, "RequestTimeout", true),
        (400, "InvalidArgument", false),
        (403, "AccessDenied", false),
        (404, "NoSuchKey", false),
        (501, "NotImplemented", false),
    ] {
        let failure = S3Failure::refusal(status, &none, &error(code));
        assert_eq!(failure.may_pass, may_pass, "{status} {code}");
    }
    let mut elsewhere = HeaderMap::new();
    elsewhere.insert("x-amz-bucket-region", "eu-west-1".parse().expect("a value"));
    let failure = S3Failure::refusal(301, &elsewhere, &error("PermanentRedirect"));
    assert_eq!(failure.region.as_deref(), Some("eu-west-1"));
}

#[test]
fn checksums_are_as_s3_writes_them() {
    assert_eq!(crc32(b"123456789"), "y/Q5Jg==");
}
