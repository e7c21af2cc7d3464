//! Certificates for keys of others: what a request says of itself is copied, what it may do is said by us.
//!
//! Written in DER by hand: the name in a request may have a field many times, such as groups, and has to stay as it is.
//!
//! upstream: pkg/controller/certificates/authority

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authority, BACKDATE};

/// Certificates that are good for less end when they were asked to; others that much earlier as they begin earlier.
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// Characters on a line of PEM. upstream: RFC 7468
const PEM_LINE: usize = 64;

/// The usages of the API and their bits. upstream: RFC 5280, KeyUsage
const USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
/// The extended usages of the API and their numbers, in the order in which they are written.
const EXTENDED: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

/// What a certificate is to be.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What it is for, in the words of the API.
    pub usages: &'a [String],
    /// How long it is good for.
    pub lifetime: SignedDuration,
    /// The time now.
    pub now: Timestamp,
    /// Its number: random.
    pub serial: [u8; 16],
}

impl Authority {
    /// Makes a certificate for the key in a request, both PEM.
    ///
    /// # Errors
    /// When the request is damaged or was not signed with its key, a usage is not known, or this authority has
    /// expired or has a key that it cannot sign with.
    pub fn sign(&self, request: &[u8], terms: &Terms<'_>) -> Result<String, String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(request).map_err(|e| e.to_string())?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|error| format!("unable to parse certificate request: {error}"))?;
        request
            .verify_signature()
            .map_err(|error| format!("unable to verify certificate request signature: {error}"))?;
        let own = CertificateDer::from_pem_slice(self.cert_pem().as_bytes())
            .map_err(|error| error.to_string())?;
        let (_, own) = X509Certificate::from_der(&own).map_err(|error| error.to_string())?;
        let key = KeyPair::from_pem(&self.pair().key_pem).map_err(|error| error.to_string())?;
        let algorithm = algorithm(&key)?;
        let info = &request.certification_request_info;
        let mut serial = terms.serial;
        serial[0] = serial[0] & 0x7f | 0x40; // positive, and as long as it looks
        let body = sequence(&[
            &tlv(0xa0, &[&tlv(0x02, &[&[2]])]),
            &tlv(0x02, &[&serial]),
            algorithm,
            own.subject().as_raw(),
            &validity(terms, &own)?,
            info.subject.as_raw(),
            info.subject_pki.raw,
            &tlv(0xa3, &[&extensions(&request, terms.usages, &own)?]),
        ]);
        let signature = key.sign(&body).map_err(|error| error.to_string())?;
        let certificate = sequence(&[&body, algorithm, &tlv(0x03, &[&[0], &signature])]);
        Ok(to_pem(&certificate))
    }
}

/// The name of the algorithm that a key signs with, in DER. upstream: RFC 5758, RFC 4055, RFC 8410
fn algorithm(key: &KeyPair) -> Result<&'static [u8], String> {
    let known: [(&rcgen::SignatureAlgorithm, &[u8]); 4] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"),
        (&rcgen::PKCS_RSA_SHA256, b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"),
        (&rcgen::PKCS_ED25519, b"\x30\x05\x06\x03\x2b\x65\x70"),
    ];
    let found = known.into_iter().find(|(algorithm, _)| *algorithm == key.algorithm());
    found.map(|(_, name)| name).ok_or_else(|| "the authority's key is of no known kind".to_owned())
}

fn validity(terms: &Terms<'_>, own: &X509Certificate<'_>) -> Result<Vec<u8>, String> {
    let range = |_| "the certificate's end is out of range".to_owned();
    let last = own.validity().not_after.timestamp();
    let begin = terms.now.checked_sub(BACKDATE).map_err(range)?;
    let short = terms.lifetime < SHORT;
    let from = if short { terms.now } else { begin };
    let end = from.checked_add(terms.lifetime).map_err(range)?;
    let end = end.min(Timestamp::from_second(last).map_err(range)?);
    if terms.now.as_second() >= last {
        return Err("the authority has expired".to_owned());
    }
    Ok(sequence(&[&time(begin), &time(end)]))
}

/// upstream: RFC 5280: two digits of the year until 2049
fn time(at: Timestamp) -> Vec<u8> {
    let year: i32 = at.strftime("%Y").to_string().parse().unwrap_or(0);
    let text = at.strftime("%m%d%H%M%SZ").to_string();
    match year {
        1950..2050 => tlv(0x17, &[format!("{:02}{text}", year % 100).as_bytes()]),
        _ => tlv(0x18, &[format!("{year:04}{text}").as_bytes()]),
    }
}

fn extensions(
    request: &X509CertificationRequest<'_>,
    usages: &[String],
    own: &X509Certificate<'_>,
) -> Result<Vec<u8>, String> {
    let has = |name: &str| usages.iter().any(|usage| usage == name);
    let known = |usage: &&String| {
        USAGES.iter().any(|(name, _)| name == usage) || EXTENDED.iter().any(|(n, _)| n == usage)
    };
    if let Some(other) = usages.iter().find(|usage| !known(usage)) {
        return Err(format!("unrecognized usage values: [{other:?}]"));
    }
    let mut all = Vec::new();
    let bits: u16 =
        USAGES.iter().filter(|(n, _)| has(n)).map(|(_, bit)| 0x8000 >> bit).fold(0, |a, b| a | b);
    if bits != 0 {
        all.push(extension(KEY_USAGE, true, &bit_string(bits)));
    }
    let mut extended: Vec<&[u64]> =
        EXTENDED.iter().filter(|(n, _)| has(n)).map(|(_, id)| *id).collect();
    extended.dedup();
    if !extended.is_empty() {
        let ids: Vec<Vec<u8>> = extended.into_iter().map(object_id).collect();
        let ids: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
        all.push(extension(EXTENDED_KEY_USAGE, false, &sequence(&ids)));
    }
    all.push(extension(BASIC_CONSTRAINTS, true, &sequence(&[])));
    let own_key = own.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    if let Some(id) = own_key {
        all.push(extension(AUTHORITY_KEY, false, &sequence(&[&tlv(0x80, &[id])])));
    }
    if let Some(names) = alternative_names(request) {
        let nameless = request.certification_request_info.subject.iter().next().is_none();
        all.push(extension(ALTERNATIVE_NAMES, nameless, &names));
    }
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    Ok(sequence(&all))
}

/// The alternative names of a request, as they stand in it.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Option<Vec<u8>> {
    request.certification_request_info.iter_attributes().find_map(|attribute| {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            return None;
        };
        let names = asked.extensions.iter().find(|extension| {
            matches!(extension.parsed_extension(), ParsedExtension::SubjectAlternativeName(_))
        });
        names.map(|names| names.value.to_vec())
    })
}

fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&object_id(id), critical, &tlv(0x04, &[value])])
}

/// A bit string whose first bits are those of a number, without the zeros at its end.
fn bit_string(bits: u16) -> Vec<u8> {
    let [first, second] = bits.to_be_bytes();
    let unused = u8::try_from(bits.trailing_zeros() % 8).unwrap_or(0);
    match second {
        0 => tlv(0x03, &[&[unused, first]]),
        _ => tlv(0x03, &[&[unused, first, second]]),
    }
}

fn object_id(id: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = id.first().zip(id.get(1)).map(|(a, b)| a * 40 + b);
    for number in head.into_iter().chain(id.iter().skip(2).copied()) {
        let mut digits = vec![u8::try_from(number & 0x7f).unwrap_or(0)];
        let mut rest = number >> 7;
        while rest > 0 {
            digits.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        bytes.extend(digits.into_iter().rev());
    }
    tlv(0x06, &[&bytes])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// A value in DER: its kind, its length, its parts.
fn tlv(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![kind];
    let bytes = length.to_be_bytes();
    let used = &bytes[bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1)..];
    match length {
        0..0x80 => out.extend_from_slice(used),
        _ => {
            out.push(0x80 | u8::try_from(used.len()).unwrap_or(0));
            out.extend_from_slice(used);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
