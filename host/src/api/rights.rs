//! Which role may do what: the one table.
//!
//! Super-admins may do everything and have no column. A key's column are the management scopes that open the action, any of
//! them.

use crate::key::Management;

/// Something that not everyone may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// List and show keys.
    ReadKeys,
    /// Make, rotate, scope and revoke keys.
    WriteKeys,
    /// Bring keys in that were made elsewhere.
    ImportKeys,
    /// See, make and retire peppers.
    ManagePeppers,
    /// List and show orgs.
    ReadOrgs,
    /// Make orgs.
    CreateOrgs,
    /// Rename an org.
    RenameOrgs,
    /// Erase an org.
    EraseOrgs,
    /// List and show tokens.
    ReadTokens,
    /// Make and revoke tokens.
    WriteTokens,
    /// Read the audit log, and have it verified.
    ReadAudit,
    /// Read usage.
    ReadUsage,
    /// List and show webhooks, and what came of their messages.
    ReadWebhooks,
    /// Make, change, test, rotate and delete webhooks.
    WriteWebhooks,
    /// See and change what is of the whole gateway: plugins, configuration, metrics.
    ManageGateway,
}

impl Action {
    /// All of them.
    pub(super) const ALL: [Self; 15] = [
        Self::ReadKeys,
        Self::WriteKeys,
        Self::ImportKeys,
        Self::ManagePeppers,
        Self::ReadOrgs,
        Self::CreateOrgs,
        Self::RenameOrgs,
        Self::EraseOrgs,
        Self::ReadTokens,
        Self::WriteTokens,
        Self::ReadAudit,
        Self::ReadUsage,
        Self::ReadWebhooks,
        Self::WriteWebhooks,
        Self::ManageGateway,
    ];

    /// What it is, after "may not".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::ReadKeys => "read keys",
            Self::WriteKeys => "make or change keys",
            Self::ImportKeys => "import keys",
            Self::ManagePeppers => "see or change peppers",
            Self::ReadOrgs => "read orgs",
            Self::CreateOrgs => "make orgs",
            Self::RenameOrgs => "rename orgs",
            Self::EraseOrgs => "erase orgs",
            Self::ReadTokens => "read tokens",
            Self::WriteTokens => "make or revoke tokens",
            Self::ReadAudit => "read the audit log",
            Self::ReadUsage => "read usage",
            Self::ReadWebhooks => "read webhooks",
            Self::WriteWebhooks => "make or change webhooks",
            Self::ManageGateway => "see or change what is of the whole gateway",
        }
    }
}

/// How far someone may do something within their org.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Not at all.
    No,
    /// With what they made themselves.
    Own,
    /// With all of it.
    All,
}

/// Who may do one thing.
pub(super) struct Rights {
    pub(super) org_admin: Extent,
    pub(super) member: Extent,
    pub(super) auditor: Extent,
    pub(super) keys: &'static [Management],
}

/// The table.
pub(super) fn rights(action: Action) -> Rights {
    use Extent::{All, No, Own};
    use Management::{KeysRead, KeysWrite, UsageRead, WebhooksWrite};
    let row = |org_admin, member, auditor, keys| Rights { org_admin, member, auditor, keys };
    match action {
        // org-admin, member, auditor, keys with
        Action::ReadKeys => row(All, All, All, &[KeysRead, KeysWrite]),
        Action::WriteKeys => row(All, Own, No, &[KeysWrite]),
        Action::ImportKeys => row(No, No, No, &[]),
        Action::ManagePeppers => row(No, No, No, &[]),
        Action::ReadOrgs => row(All, All, All, &[]),
        Action::CreateOrgs => row(No, No, No, &[]),
        Action::RenameOrgs => row(All, No, No, &[]),
        Action::EraseOrgs => row(No, No, No, &[]),
        Action::ReadTokens => row(All, All, All, &[]),
        Action::WriteTokens => row(All, No, No, &[]),
        Action::ReadAudit => row(All, No, All, &[]),
        Action::ReadUsage => row(All, All, All, &[UsageRead]),
        Action::ReadWebhooks => row(All, All, All, &[WebhooksWrite]),
        Action::WriteWebhooks => row(All, No, No, &[WebhooksWrite]),
        Action::ManageGateway => row(No, No, No, &[]),
    }
}
