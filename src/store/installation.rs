//! The installation that this database belongs to.

use uuid::Uuid;

use super::{Result, Store};

/// SQLSTATE: the table does not exist.
const NO_TABLE: &str = "42P01";

impl Store {
    /// Returns the id of the installation; `None` if the tables are of an older version.
    pub async fn installation(&self) -> Result<Option<Uuid>> {
        let row = self.session().await?.query_opt("SELECT id FROM installation", &[]).await;
        match row {
            Ok(row) => Ok(row.map(|row| row.try_get(0)).transpose()?),
            Err(error) if error.sql_state() == Some(NO_TABLE) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::testing::Database;

    #[tokio::test]
    async fn each_database_is_of_one_installation() {
        let (one, other) = (Database::migrated().await, Database::migrated().await);
        let id = one.store().installation().await.expect("read");
        assert!(id.is_some());
        assert_eq!(one.store().installation().await.expect("read again"), id);
        assert_ne!(other.store().installation().await.expect("read"), id);
        assert_eq!(Database::empty().await.store().installation().await.expect("no table"), None);
    }
}
