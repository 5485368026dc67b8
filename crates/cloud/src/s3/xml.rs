//! S3's XML: its responses, and the two documents that we send.

use super::ListedObject;
use super::removal::{Doomed, PendingUpload};
use super::upload::UploadedPart;
use aws_smithy_types::date_time::{DateTime, Format};
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use aws_smithy_xml::encode::XmlWriter;
use std::borrow::Cow;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Calls `each` for the elements of a document if its root has one of these names; else `None`.
fn read<'d, T: Default>(
    text: &'d str,
    roots: &[&str],
    mut each: impl FnMut(&mut T, &str, &mut ScopedDecoder<'d, '_>) -> Result<(), XmlDecodeError>,
) -> Result<Option<T>, XmlDecodeError> {
    let mut document = Document::new(text.trim_start());
    let mut root = document.root_element()?;
    if !roots.iter().any(|name| root.start_el().matches(name)) {
        return Ok(None);
    }
    // The parser accepts a document that breaks off.
    let end = format!("</{}>", root.start_el().local());
    if !text.trim_end().ends_with(&end) && !text.trim_end().ends_with("/>") {
        return Err(XmlDecodeError::custom(format!("it breaks off before {end}")));
    }
    let mut read = T::default();
    while let Some(mut tag) = root.next_tag() {
        let name = tag.start_el().local().to_owned();
        each(&mut read, &name, &mut tag)?;
    }
    Ok(Some(read))
}

/// The text of an element.
fn text(tag: &mut ScopedDecoder<'_, '_>) -> Result<String, XmlDecodeError> {
    try_data(tag).map(Cow::into_owned)
}

/// Calls `each` for the children of an element.
fn children<'d>(
    tag: &mut ScopedDecoder<'d, '_>,
    mut each: impl FnMut(&str, &mut ScopedDecoder<'d, '_>) -> Result<(), XmlDecodeError>,
) -> Result<(), XmlDecodeError> {
    while let Some(mut child) = tag.next_tag() {
        let name = child.start_el().local().to_owned();
        each(&name, &mut child)?;
    }
    Ok(())
}

/// The document, or what is wrong with it.
fn required<T>(read: Result<Option<T>, XmlDecodeError>) -> Result<T, String> {
    match read {
        Ok(Some(read)) => Ok(read),
        Ok(None) => Err("the answer is another than was asked for".to_owned()),
        Err(error) => Err(format!("the answer cannot be read: {error}")),
    }
}

/// Code and message of an error; `None` if the document is not an error.
pub(super) fn error(body: &str) -> Option<(String, String)> {
    let read = read(body, &["Error"], |(code, message): &mut (String, String), name, tag| {
        match name {
            "Code" => *code = text(tag)?,
            "Message" => *message = text(tag)?,
            _ => {}
        }
        Ok(())
    });
    read.ok().flatten()
}

/// A page of objects, and the token of the next page if there is one.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) listed: Vec<ListedObject>,
    pub(super) next: Option<String>,
    is_truncated: bool,
}

/// Reads a page of objects.
pub(super) fn objects(body: &str) -> Result<Objects, String> {
    let page = read(body, &["ListBucketResult"], |page: &mut Objects, name, tag| {
        match name {
            "Contents" => page.listed.extend(object(tag)?),
            "IsTruncated" => page.is_truncated = text(tag)? == "true",
            "NextContinuationToken" => page.next = Some(text(tag)?),
            _ => {}
        }
        Ok(())
    });
    let page = required(page)?;
    match page.is_truncated {
        true => Ok(page),
        false => Ok(Objects { next: None, ..page }),
    }
}

fn object(tag: &mut ScopedDecoder<'_, '_>) -> Result<Option<ListedObject>, XmlDecodeError> {
    let (mut key, mut size, mut modified) = (None, 0, 0);
    children(tag, |name, tag| {
        match name {
            "Key" => key = Some(text(tag)?),
            "Size" => size = text(tag)?.parse().unwrap_or(0),
            "LastModified" => modified = seconds(&text(tag)?, Format::DateTime).unwrap_or(0),
            _ => {}
        }
        Ok(())
    })?;
    Ok(key.map(|key| ListedObject { key, size, modified }))
}

/// Parses a time into seconds since 1970.
pub(super) fn seconds(text: &str, format: Format) -> Option<i64> {
    DateTime::from_str(text, format).ok().map(|time| time.secs())
}

/// A page of uploads, and the key and id after which the next page begins.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    pub(super) begun: Vec<PendingUpload>,
    pub(super) next: Option<(String, String)>,
    is_truncated: bool,
}

/// Reads a page of uploads.
pub(super) fn uploads(body: &str) -> Result<Uploads, String> {
    let (mut key, mut id) = (None, None);
    let page = read(body, &["ListMultipartUploadsResult"], |page: &mut Uploads, name, tag| {
        match name {
            "Upload" => page.begun.extend(upload(tag)?),
            "IsTruncated" => page.is_truncated = text(tag)? == "true",
            "NextKeyMarker" => key = Some(text(tag)?).filter(|key| !key.is_empty()),
            "NextUploadIdMarker" => id = Some(text(tag)?),
            _ => {}
        }
        Ok(())
    });
    let page = required(page)?;
    let next = key.filter(|_| page.is_truncated).map(|key| (key, id.unwrap_or_default()));
    Ok(Uploads { next, ..page })
}

fn upload(tag: &mut ScopedDecoder<'_, '_>) -> Result<Option<PendingUpload>, XmlDecodeError> {
    let (mut key, mut id, mut since) = (None, None, None);
    children(tag, |name, tag| {
        match name {
            "Key" => key = Some(text(tag)?),
            "UploadId" => id = Some(text(tag)?),
            "Initiated" => since = seconds(&text(tag)?, Format::DateTime),
            _ => {}
        }
        Ok(())
    })?;
    Ok(key.zip(id).zip(since).map(|((key, id), since)| PendingUpload { key, id, since }))
}

/// Reads the id of a new upload.
pub(super) fn upload_id(body: &str) -> Result<String, String> {
    let id = read(body, &["InitiateMultipartUploadResult"], |id: &mut String, name, tag| {
        if name == "UploadId" {
            *id = text(tag)?;
        }
        Ok(())
    });
    match required(id)? {
        id if id.is_empty() => Err("the server names no upload".to_owned()),
        id => Ok(id),
    }
}

/// Reads the algorithm by which a bucket encrypts.
pub(super) fn algorithm(body: &str) -> Result<Option<String>, String> {
    let read = read(
        body,
        &["ServerSideEncryptionConfiguration"],
        |algorithm: &mut Option<String>, name, tag| match name {
            "Rule" => children(tag, |name, tag| match name {
                "ApplyServerSideEncryptionByDefault" => children(tag, |name, tag| {
                    if name == "SSEAlgorithm" {
                        *algorithm = Some(text(tag)?);
                    }
                    Ok(())
                }),
                _ => Ok(()),
            }),
            _ => Ok(()),
        },
    );
    required(read)
}

#[derive(Debug, Default)]
pub(super) struct DeleteResult {
    pub(super) gone: Vec<String>,
    pub(super) problems: Vec<DeleteError>,
}

/// Why one object was not deleted.
#[derive(Debug, Default)]
pub(super) struct DeleteError {
    pub(super) key: String,
    pub(super) code: String,
    pub(super) message: String,
}

/// Reads the response to a removal.
pub(super) fn deleted(body: &str) -> Result<DeleteResult, String> {
    let read = read(body, &["DeleteResult"], |deleted: &mut DeleteResult, name, tag| {
        match name {
            "Deleted" => children(tag, |name, tag| {
                if name == "Key" {
                    deleted.gone.push(text(tag)?);
                }
                Ok(())
            })?,
            "Error" => {
                let mut problem = DeleteError::default();
                children(tag, |name, tag| {
                    match name {
                        "Key" => problem.key = text(tag)?,
                        "Code" => problem.code = text(tag)?,
                        "Message" => problem.message = text(tag)?,
                        _ => {}
                    }
                    Ok(())
                })?;
                deleted.problems.push(problem);
            }
            _ => {}
        }
        Ok(())
    });
    required(read)
}

/// The document that completes an upload of these parts.
pub(super) fn completion(parts: &[UploadedPart]) -> String {
    let mut body = String::new();
    let mut document = XmlWriter::new(&mut body);
    let mut root = document.start_el("CompleteMultipartUpload").write_ns(NAMESPACE, None).finish();
    for part in parts {
        let mut element = root.start_el("Part").finish();
        let mut field = |name: &str, value: &str| {
            let mut field = element.start_el(name).finish();
            field.data(value);
            field.finish();
        };
        field("PartNumber", &part.number.to_string());
        field("ETag", &part.etag);
        if let Some(sum) = &part.crc32 {
            field("ChecksumCRC32", sum);
        }
        element.finish();
    }
    root.finish();
    body
}

/// The document that removes these objects, each only if its tag is unchanged.
pub(super) fn deletion(doomed: &[Doomed]) -> String {
    let mut body = String::new();
    let mut document = XmlWriter::new(&mut body);
    let mut root = document.start_el("Delete").write_ns(NAMESPACE, None).finish();
    for Doomed { key, etag } in doomed {
        let mut element = root.start_el("Object").finish();
        let mut field = |name: &str, value: &str| {
            let mut field = element.start_el(name).finish();
            field.data(value);
            field.finish();
        };
        field("Key", key);
        if let Some(etag) = etag {
            field("ETag", etag);
        }
        element.finish();
    }
    root.finish();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a</Prefix>
<Contents><Key> a &amp;&#x20;b </Key><LastModified>2026-11-30T01:02:03.000Z</LastModified><Size>7</Size>
<Owner><ID>Key</ID></Owner></Contents><Contents><Size>1</Size></Contents>
<IsTruncated>true</IsTruncated><NextContinuationToken>t==</NextContinuationToken></ListBucketResult>"#;

    #[test]
    fn pages_of_objects_are_read() {
        let page = objects(LIST).expect("a page");
        let listed = ListedObject { key: " a & b ".into(), size: 7, modified: 1_796_000_523 };
        assert_eq!((page.listed, page.next.as_deref()), (vec![listed], Some("t==")));
        let last = LIST.replace("<IsTruncated>true", "<IsTruncated>false");
        assert_eq!(objects(&last).expect("a page").next, None);
    }

    #[test]
    fn another_document_is_no_page() {
        for body in ["", "{}", "<a/>", "<ListBucketResult>", "<ListBucketResult><Contents>"] {
            assert!(objects(body).is_err(), "{body}");
        }
        assert!(upload_id("<InitiateMultipartUploadResult/>").is_err());
    }

    #[test]
    fn errors_are_found_though_they_come_as_successes() {
        let body = "\n\n<?xml version='1.0'?>\n<Error><Code>SlowDown</Code>\
                    <Message>a &lt; b</Message></Error>";
        assert_eq!(error(body), Some(("SlowDown".into(), "a < b".into())));
        assert_eq!(error(LIST), None);
        assert_eq!(error(""), None);
    }

    #[test]
    fn what_is_sent_is_escaped() {
        let doomed = Doomed { key: "a<&>b".into(), etag: Some("\"e\"".into()) };
        let body = deletion(std::slice::from_ref(&doomed));
        assert!(body.contains("<Key>a&lt;&amp;&gt;b</Key>"), "{body}");
        assert!(body.starts_with("<Delete xmlns="), "{body}");
        let part = UploadedPart { number: 3, etag: "\"e\"".into(), crc32: Some("AAAAAA==".into()) };
        let body = completion(&[part]);
        assert!(body.contains("<PartNumber>3</PartNumber>"), "{body}");
        assert!(body.contains("<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"), "{body}");
    }

    #[test]
    fn what_became_of_each_is_read() {
        let body = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key>\
                    <Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
        let read = deleted(body).expect("a result");
        assert_eq!(read.gone, ["a"]);
        assert_eq!(
            (read.problems[0].key.as_str(), read.problems[0].code.as_str()),
            ("b", "AccessDenied")
        );
    }

    #[test]
    fn the_algorithm_of_a_bucket_is_found() {
        let body = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                    <SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
                    <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>";
        assert_eq!(algorithm(body), Ok(Some("aws:kms".into())));
    }
}
