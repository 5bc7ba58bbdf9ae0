//! Users with a SCRAM password.

use super::{Admin, Results};
use crate::admin::users::{
    AlterScramCredentials, DescribeScramCredentials, ScramChange, ScramCredentialInfo,
};
use crate::error::Result;
use crate::net::login::random_bytes;

impl Admin {
    /// Which passwords these users have, or all users with none (KIP-554).
    ///
    /// # Errors
    /// When no broker answers in time; each user has its own, such as `RESOURCE_NOT_FOUND`.
    pub async fn describe_user_scram_credentials<T: Into<String>>(
        &self,
        users: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, Vec<ScramCredentialInfo>>> {
        let users: Vec<String> = users.into_iter().map(Into::into).collect();
        self.ask(DescribeScramCredentials { users: (!users.is_empty()).then_some(users) }).await
    }

    /// Sets and deletes passwords. What is sent is a hash with a random salt, never the password.
    ///
    /// # Errors
    /// `Usage` for iterations out of range, `Closed`; each change has its own, such as `UNACCEPTABLE_CREDENTIAL`.
    pub async fn alter_user_scram_credentials(
        &self,
        changes: impl IntoIterator<Item = ScramChange>,
    ) -> Result<Results<String, ()>> {
        let prepare = |change: ScramChange| change.prepare(random_bytes()?);
        let changes = changes.into_iter().map(prepare).collect::<Result<_>>()?;
        let results = self.run(AlterScramCredentials, changes).await?;
        Ok(results.into_iter().map(|(key, result)| (key.user, result)).collect())
    }
}
