//! TLS as a client sees it, with certificates of the test's own authority.

use axum::Router;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::server::ending::Ending;
use crate::server::listening::{Peer, serve};
use crate::server::rig::LIMIT;

/// An authority, and a folder for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate of these names, and its key.
    fn sign(&self, file: &str, dns: &[&str], uris: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names = dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{file}.crt")), signed.pem()).unwrap();
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn files(&self) -> TlsFiles {
        let [cert, key, ca] = ["server.crt", "server.key", "ca.crt"].map(|file| self.path(file));
        TlsFiles { cert, key, client_ca: Some(ca) }
    }

    /// A client that trusts this authority, with a certificate where one is named.
    fn client(&self, identity: Option<&str>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        certificates(&self.path("ca.crt")).unwrap().into_iter().for_each(|root| roots.add(root).unwrap());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let chain = certificates(&self.path(&format!("{file}.crt"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Arc::new(config).into()
    }
}

/// Serves to each who asks the names that its certificate gives it.
async fn start(tls: &Arc<Tls>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = |axum::Extension(peer): axum::Extension<Peer>| async move {
        peer.names.iter().map(|name| format!("[{name}]")).collect::<String>()
    };
    tokio::spawn(serve(listener, Some(tls.clone()), Router::new().route("/", get(told)), 8, Ending::new()));
    address
}

async fn ask(address: std::net::SocketAddr, client: TlsConnector, name: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = client.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut text)).await.unwrap()?;
    Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

/// Client certificates are asked for and not demanded: whoever shows one of the authority has its names, whoever shows none
/// has none, and one of another authority is refused.
#[tokio::test]
async fn certificates_name_the_peer() {
    let authority = Authority::new();
    authority.sign("server", &["localhost"], &[]);
    authority.sign("ops", &["ops.example.com"], &["spiffe://example.com/ops"]);
    let address = start(&Arc::new(Tls::load(authority.files()).unwrap())).await;
    assert_eq!(ask(address, authority.client(None), "localhost").await.unwrap(), "");
    let named = ask(address, authority.client(Some("ops")), "localhost").await.unwrap();
    assert_eq!(named, "[ops.example.com][spiffe://example.com/ops]");

    let stranger = Authority::new();
    stranger.sign("ops", &["ops.example.com"], &[]);
    fs::copy(authority.path("ca.crt"), stranger.path("ca.crt")).unwrap();
    assert!(ask(address, stranger.client(Some("ops")), "localhost").await.is_err());
    assert!(
        ask(address, Authority::new().client(None), "localhost").await.is_err(),
        "the sidecar is known by its authority"
    );
    assert!(ask(address, authority.client(None), "other.example.com").await.is_err());
}

/// A new certificate is shown soon after it was written, without a restart; a broken one changes nothing.
#[tokio::test]
async fn certificates_are_read_again() {
    let authority = Authority::new();
    authority.sign("server", &["localhost"], &[]);
    let tls = Arc::new(Tls::load(authority.files()).unwrap());
    let address = start(&tls).await;
    fs::write(authority.path("server.crt"), "garbage").unwrap();
    tls.refresh();
    tokio::spawn(tls.keep_fresh());
    ask(address, authority.client(None), "localhost").await.unwrap();
    authority.sign("server", &["renewed.example.com"], &[]);
    let renewed = async {
        while ask(address, authority.client(None), "renewed.example.com").await.is_err() {
            tokio::time::sleep(LOOK / 10).await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.unwrap();
}

/// What cannot be used is refused with the flag, the file and the reason, and never with a piece of a key.
#[test]
fn bad_files_are_named() {
    let authority = Authority::new();
    authority.sign("server", &["localhost"], &[]);
    authority.sign("other", &["localhost"], &[]);
    let good = authority.files();
    let key = fs::read_to_string(&good.key).unwrap();
    fs::write(authority.path("empty"), "").unwrap();
    fs::write(authority.path("cut"), key.replace("END", "")).unwrap();
    let path = |name: &str| authority.path(name);
    let cases = [
        (TlsFiles { cert: path("none"), ..good.clone() }, "--tls-cert "),
        (TlsFiles { cert: path("empty"), ..good.clone() }, "holds no certificate"),
        (TlsFiles { key: path("cut"), ..good.clone() }, "holds no private key"),
        (TlsFiles { key: path("other.key"), ..good.clone() }, "--tls-key "),
        (TlsFiles { client_ca: Some(path("empty")), ..good.clone() }, "--client-ca "),
    ];
    for (files, wanted) in cases {
        let error = format!("{:#}", Tls::load(files).unwrap_err());
        assert!(error.contains(wanted), "{error}");
        assert!(key.lines().skip(1).take(2).all(|line| !error.contains(line)), "{error}");
    }
    assert!(!format!("{:?}", Tls::load(good).unwrap()).contains("PRIVATE"));
}
