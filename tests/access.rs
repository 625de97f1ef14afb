//! Both client stacks enter secured clusters by one `security` section, and are refused in the same words' sense.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::access::unsigned_token;
use support::cluster::Certificates;
use support::{Cluster, ClusterSpec, unique, until_told};
use twinlog::endpoint::{
    Catalog, Error, ErrorKind, Identity, LedgerEntry, LedgerEvent, LedgerReader, LedgerStore, LedgerTopic, Mechanism,
    Protocol, Result, Secret, SecretSource, Security, TokenSource,
};
use twinlog::librdkafka::{ClusterAccess, RdLedgerStore};
use twinlog::model::LinkName;
use twinlog::wire;

const SOON: Duration = Duration::from_secs(60);

/// A cluster, and the ledger topics of a link on it.
struct Bed {
    cluster: Cluster,
    link: LinkName,
}

impl Bed {
    fn start(security: support::Security) -> Bed {
        let cluster = Cluster::start(ClusterSpec { security, ..ClusterSpec::default() });
        let link = LinkName::from(unique("entered"));
        for topic in [LedgerTopic::Map, LedgerTopic::Control] {
            let compacted = [("cleanup.policy", "compact")];
            cluster.client().create_topic(topic.name(&link).as_str(), 1, &compacted).unwrap();
        }
        Bed { cluster, link }
    }

    fn certificates(&self) -> &Certificates {
        self.cluster.certificates().expect("the cluster is secured")
    }

    async fn by_wire(&self, security: &Security) -> Result<()> {
        self.wire(security).topics().await.map(drop)
    }

    fn wire(&self, security: &Security) -> wire::Cluster {
        wire::Cluster::new("lyon", &self.cluster.bootstrap(), security.clone(), "twinlog-test")
    }

    fn ledger(&self, security: &Security) -> RdLedgerStore {
        let (bootstrap, tokens) = (self.cluster.bootstrap(), self.wire(security).tokens());
        let access = ClusterAccess { alias: "lyon".into(), bootstrap, security: security.clone(), tokens };
        RdLedgerStore::new(access, &self.link)
    }

    /// Reading a topic of the ledger.
    async fn by_librdkafka(&self, security: &Security) -> Result<()> {
        let event = self.ledger(security).follow(LedgerTopic::Control).await?.next().await?;
        assert_eq!(event, LedgerEvent::CaughtUp);
        Ok(())
    }

    async fn enters(&self, security: &Security) {
        self.by_wire(security).await.expect("the wire stack enters");
        self.by_librdkafka(security).await.expect("librdkafka enters");
        let claimed = until_told(SOON, "the ledger is claimed", async || self.ledger(security).claim().await).await;
        claimed.append(LedgerTopic::Control, Vec::new()).await.expect("and writes");
    }

    /// Both stacks, and librdkafka's writing side too, are refused for good and name these.
    async fn is_refused(&self, security: &Security, parts: &[&str]) {
        let refusals: [Error; 3] = [
            self.by_wire(security).await.expect_err("refused by wire"),
            self.by_librdkafka(security).await.expect_err("refused by librdkafka"),
            self.ledger(security).claim().await.map(drop).expect_err("refused by librdkafka's producer"),
        ];
        for refusal in refusals {
            println!("{refusal}");
            assert_eq!(refusal.kind, ErrorKind::Denied, "{refusal}");
            for part in ["lyon"].iter().chain(parts) {
                assert!(refusal.message.contains(part), "{part} is not in: {refusal}");
            }
        }
    }
}

fn tls(ca: &Path, identity: Option<Identity>) -> Security {
    Security { protocol: Protocol::Ssl, ca: Some(ca.to_owned()), identity, ..Security::default() }
}

fn identity(of: &Certificates) -> Option<Identity> {
    Some(Identity { certificate: of.client.clone(), key: of.client_key.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_want_certificates_are_entered_with_one_by_both_stacks_and_refusals_name_the_keys() {
    let bed = Bed::start(support::Security::MutualTls);
    let ours = bed.certificates();
    bed.enters(&tls(&ours.ca, identity(ours))).await;
    bed.is_refused(&tls(&ours.ca, None), &["security.certificate", ".key"]).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = support::access::certificates(elsewhere.path());
    bed.is_refused(&tls(&ours.ca, identity(&foreign)), &["security.certificate", ".key"]).await;
    bed.is_refused(&tls(&foreign.ca, identity(ours)), &["security.ca"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_want_tokens_are_entered_with_one_by_both_stacks_and_refusals_name_the_key() {
    let bed = Bed::start(support::Security::Tokens);
    let shown = |token: String| Security {
        protocol: Protocol::SaslSsl,
        ca: Some(bed.certificates().ca.clone()),
        mechanism: Some(Mechanism::OauthBearer),
        token: Some(TokenSource::Command(vec!["echo".into(), token])),
        ..Security::default()
    };
    bed.enters(&shown(unsigned_token("twinlog", Duration::from_secs(60)))).await;
    // Signed, so that brokers which take unsigned tokens refuse it.
    let signed = unsigned_token("twinlog", Duration::from_secs(60)) + "c2lnbmVk";
    bed.is_refused(&shown(signed.clone()), &["security.token"]).await;
    let opaque = bed.by_wire(&shown("opaque".into())).await.expect_err("not a JWT");
    assert!(opaque.message.contains("invalid_token"), "{opaque}");
    let plain = Security { mechanism: Some(Mechanism::ScramSha512), username: Some("twinlog".into()), ..shown(signed) };
    let plain = Security { password: Some(SecretSource::Known(Secret::new("pw"))), token: None, ..plain };
    let offered = bed.by_wire(&plain).await.expect_err("no SCRAM there");
    assert!(offered.message.contains("OAUTHBEARER") && offered.message.contains("security.mechanism"), "{offered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_ledger_that_rests_longer_than_its_token_lives_can_write_then() {
    let bed = Bed::start(support::Security::Tokens);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let give = |lives: u64| std::fs::write(&file, unsigned_token("twinlog", Duration::from_secs(lives))).unwrap();
    give(4);
    let security = Security {
        protocol: Protocol::SaslSsl,
        ca: Some(bed.certificates().ca.clone()),
        mechanism: Some(Mechanism::OauthBearer),
        token: Some(TokenSource::File(file.clone())),
        ..Security::default()
    };
    let claimed = until_told(SOON, "the ledger is claimed", async || bed.ledger(&security).claim().await).await;
    let born = Instant::now();
    let entry = |value: &'static str| vec![LedgerEntry { key: Bytes::from_static(b"k"), value: Some(value.into()) }];
    claimed.append(LedgerTopic::Control, entry("fresh")).await.unwrap();
    until_told(SOON, "three tokens have expired", async || {
        give(4);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if born.elapsed() > Duration::from_secs(13) { Ok(()) } else { Err(born.elapsed()) }
    })
    .await;
    claimed.append(LedgerTopic::Control, entry("rested")).await.unwrap();
}
