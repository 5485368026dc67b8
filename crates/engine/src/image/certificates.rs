//! Checks a file of certificates.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Checks that PEM text holds at least one certificate and that all can serve as trust anchors.
pub fn check(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("it has a certificate in it that is none: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let begun = "-----BEGIN CERTIFICATE-----\n";
        let end = "\n-----END CERTIFICATE-----\n";
        for text in ["", "x", begun, &format!("{begun}AAAA{end}"), &format!("{begun}?{end}")] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
