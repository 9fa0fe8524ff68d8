//! The files that real certificates come in.

use std::path::{Path, PathBuf};

use nsq_daemon::tls::{ClientAuth, MinVersion, ServerTls, Settings};

use super::{BOTH, Client, Files, Identity, TestServer};

pub(super) fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/pem").join(name)
}

fn settings(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Settings {
    Settings {
        certificate_file: certificate.into(),
        key_file: key.into(),
        client_auth: ClientAuth::NotRequested,
        root_ca_file: None,
        min_version: MinVersion::Tls12,
    }
}

fn refusal(settings: Settings) -> String {
    ServerTls::load(settings).unwrap_err().to_string()
}

#[test]
fn keys_of_all_usual_forms_are_taken() {
    for (certificate, key) in [
        ("rsa.crt", "rsa-pkcs8.key"),
        ("rsa.crt", "rsa-pkcs1.key"),
        // A certificate of version 1, and a key behind the parameters of its curve.
        ("ec-v1.crt", "ec-sec1.key"),
    ] {
        ServerTls::load(settings(pem(certificate), pem(key))).unwrap();
    }
}

#[tokio::test]
async fn certificate_chain_and_key_may_share_a_file_with_other_text() {
    let root = Identity::authority();
    let between = root.sign_authority();
    let server = between.sign();
    let files = Files::of(&server);
    let text = [
        "Bag Attributes\r\n",
        &server.key.serialize_pem().replace('\n', "\r\n"),
        "subject=CN = localhost\n",
        &server.certificate.pem(),
        &between.certificate.pem(),
    ];
    let combined = files.put("combined.pem", &text.concat());
    let server = TestServer::start(settings(&combined, &combined)).await;
    // The client knows the root only: the server sends what is between.
    server.connect(&Client::trusting([&root], BOTH)).await.unwrap();
    server.stop().await;
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let files = Files::of(&Identity::authority());
    let (good, good_key) =
        (files.settings.certificate_file.clone(), files.settings.key_file.clone());
    let missing = files.folder.path().join("missing.pem");
    let garbage =
        files.put("garbage.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n");
    let torn = files.put("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let wrong =
        files.put("wrong.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let (rsa, rsa_key) = (pem("rsa.crt"), pem("rsa-pkcs8.key"));
    let cases = [
        (settings(&missing, &good_key), &missing, "no such file or directory"),
        (settings(&good, &missing), &missing, "no such file or directory"),
        (settings(&good_key, &good_key), &good_key, "no certificate found"),
        (settings(&good, &good), &good, "no private key found"),
        (settings(&garbage, &good_key), &garbage, "base64"),
        (settings(&torn, &good_key), &torn, "missing section end marker"),
        (settings(&wrong, &good_key), &wrong, "invalid certificate: "),
        (
            settings(&rsa, pem("rsa-pkcs1-encrypted.key")),
            &pem("rsa-pkcs1-encrypted.key"),
            "private key is encrypted",
        ),
        (
            settings(&rsa, pem("rsa-pkcs8-encrypted.key")),
            &pem("rsa-pkcs8-encrypted.key"),
            "private key is encrypted",
        ),
        (
            settings(pem("rsa-1024.crt"), pem("rsa-1024.key")),
            &pem("rsa-1024.key"),
            "unusable private key: ",
        ),
        (settings(&good, &rsa_key), &rsa_key, "private key does not match the certificate in "),
        (
            settings(pem("ec-v1.crt"), &good_key),
            &good_key,
            "private key does not match the certificate in ",
        ),
        (
            Settings { root_ca_file: Some(missing.clone()), ..files.settings.clone() },
            &missing,
            "no such file or directory",
        ),
        (
            Settings { root_ca_file: Some(good_key.clone()), ..files.settings.clone() },
            &good_key,
            "no certificate found",
        ),
        (
            Settings {
                root_ca_file: Some(wrong.clone()),
                client_auth: ClientAuth::VerifiedCertificate,
                ..files.settings
            },
            &wrong,
            "no certificate found",
        ),
    ];
    for (settings, file, reason) in cases {
        let text = refusal(settings);
        assert!(text.contains(&*file.to_string_lossy()) && text.contains(reason), "{text}");
    }
}
