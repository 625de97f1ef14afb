//! Who may do what, and by which password.

use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsRequest};

use super::{Client, Result, accepted, text};

/// What SCRAM costs at least.
const ITERATIONS: i32 = 4096;

/// The codes of [`Allow`], by their names.
pub mod codes {
    pub const TOPIC: i8 = 2;
    pub const GROUP: i8 = 3;
    pub const CLUSTER: i8 = 4;
    pub const TRANSACTIONAL_ID: i8 = 5;
    pub const READ: i8 = 3;
    pub const WRITE: i8 = 4;
    pub const CREATE: i8 = 5;
    pub const ALTER: i8 = 7;
    pub const DESCRIBE: i8 = 8;
    pub const DESCRIBE_CONFIGS: i8 = 10;
    pub const ALTER_CONFIGS: i8 = 11;
}

/// A right: codes as in the Kafka protocol (`ResourceType`, `AclOperation`).
#[derive(Debug, Clone)]
pub struct Allow<'a> {
    /// Who, as `User:name`.
    pub principal: &'a str,
    /// 2 topic, 3 group, 4 cluster, 5 transactional id.
    pub resource: i8,
    /// Name of the resource; `*` for all, `kafka-cluster` for the cluster.
    pub name: &'a str,
    /// Whether `name` is a prefix.
    pub prefixed: bool,
    /// 3 read, 4 write, 5 create, 8 describe, 10 describe configs, …
    pub operation: i8,
}

impl Client {
    /// Gives rights, from every host.
    pub fn allow(&self, rights: &[Allow<'_>]) -> Result<()> {
        let creation = |allow: &Allow<'_>| {
            AclCreation::default()
                .with_resource_type(allow.resource)
                .with_resource_name(text(allow.name))
                .with_resource_pattern_type(if allow.prefixed { 4 } else { 3 })
                .with_principal(text(allow.principal))
                .with_host(text("*"))
                .with_operation(allow.operation)
                .with_permission_type(3)
        };
        let request = CreateAclsRequest::default().with_creations(rights.iter().map(creation).collect());
        let answer = self.ask_controller(&request, 3)?;
        answer.results.iter().try_for_each(|r| accepted(r.error_code, format_args!("right: {:?}", r.error_message)))
    }

    /// Takes rights away again.
    pub fn forbid(&self, rights: &[Allow<'_>]) -> Result<()> {
        let filter = |right: &Allow<'_>| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(right.resource)
                .with_resource_name_filter(Some(text(right.name)))
                .with_pattern_type_filter(if right.prefixed { 4 } else { 3 })
                .with_principal_filter(Some(text(right.principal)))
                .with_host_filter(Some(text("*")))
                .with_operation(right.operation)
                .with_permission_type(3)
        };
        let request = DeleteAclsRequest::default().with_filters(rights.iter().map(filter).collect());
        let answer = self.ask_controller(&request, 3)?;
        answer.filter_results.iter().zip(rights).try_for_each(|(result, right)| {
            assert_eq!(result.matching_acls.len(), 1, "{right:?} was not given");
            accepted(result.error_code, format_args!("right: {:?}", result.error_message))
        })
    }

    /// Gives a user another password for SCRAM-SHA-512.
    pub fn set_password(&self, user: &str, password: &str) -> Result<()> {
        let salt: [u8; 16] = rand::random();
        let mut salted = [0; 64];
        pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password.as_bytes(), &salt, ITERATIONS as u32, &mut salted);
        let credential = ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(2)
            .with_iterations(ITERATIONS)
            .with_salt(Bytes::copy_from_slice(&salt))
            .with_salted_password(Bytes::copy_from_slice(&salted));
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
        let answer = self.ask_controller(&request, 0)?;
        answer.results.iter().try_for_each(|r| accepted(r.error_code, format_args!("password: {:?}", r.error_message)))
    }
}
