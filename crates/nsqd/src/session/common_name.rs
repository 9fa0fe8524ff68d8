//! The common name in a certificate.

use nsq_daemon::tls::der::Element;

/// The type of the optional version, which comes first.
const VERSION: u8 = 0xa0;
/// The fields between version and subject: serial number, signature algorithm, issuer, validity.
const FIELDS_BEFORE_SUBJECT: usize = 4;
/// The object identifier 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1e;

/// The common name of the subject of a certificate in DER, the last if there are several.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Element::first_of(certificate)?;
    let mut fields = Element::first_of(certificate.content)?.content;
    if fields.first() == Some(&VERSION) {
        fields = Element::first_of(fields)?.rest;
    }
    for _ in 0..FIELDS_BEFORE_SUBJECT {
        fields = Element::first_of(fields)?.rest;
    }
    let mut subject = Element::first_of(fields)?.content;
    let mut name = None;
    while let Some(attributes) = Element::first_of(subject) {
        subject = attributes.rest;
        let mut attributes = attributes.content;
        while let Some(attribute) = Element::first_of(attributes) {
            attributes = attribute.rest;
            let kind = Element::first_of(attribute.content)?;
            if kind.content == COMMON_NAME {
                name = text(&Element::first_of(kind.rest)?).or(name);
            }
        }
    }
    name
}

/// The text in an element.
fn text(element: &Element<'_>) -> Option<String> {
    match element.tag {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | TELETEX_STRING | IA5_STRING => {
            Some(String::from_utf8_lossy(element.content).into_owned())
        }
        BMP_STRING => {
            let (units, _) = element.content.as_chunks();
            let units: Vec<_> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            Some(String::from_utf16_lossy(&units))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BmpString, CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_other_attributes() {
        let long = "x".repeat(300);
        for name in ["client", "Jürgen", &long] {
            let der = certificate(&[
                (DnType::OrganizationName, DnValue::from("NSQ")),
                (DnType::CommonName, DnValue::from(name)),
                (DnType::CountryName, DnValue::from("DE")),
            ]);
            assert_eq!(common_name(&der).as_deref(), Some(name));
        }
        let name = DnValue::BmpString(BmpString::try_from("Jürgen").unwrap());
        let der = certificate(&[(DnType::CommonName, name)]);
        assert_eq!(common_name(&der).as_deref(), Some("Jürgen"));
    }

    #[test]
    fn a_certificate_may_have_no_common_name() {
        let der = certificate(&[(DnType::OrganizationName, DnValue::from("NSQ"))]);
        assert_eq!(common_name(&der), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_name_and_does_no_harm() {
        let der = certificate(&[(DnType::CommonName, DnValue::from("client"))]);
        for len in 0..der.len() {
            assert_eq!(common_name(&der[..len]), None);
        }
        for at in 0..der.len() {
            let mut der = der.clone();
            der[at] ^= 0x7f;
            // Any result will do.
            let _ = common_name(&der);
        }
    }
}
