//! SQL that depends on the input: searches, and inserts of many rows.
//!
//! Values are always parameters. The SQL text consists only of literals of this crate.

mod text;

use std::fmt::Write;

use tokio_postgres::types::{ToSql, Type};

pub(super) use text::{bytea_escaped, clean, clean_opt, contains, json_forms};

type Value<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A search, built from conditions.
///
/// One `($1 IS NULL OR column = $1)` for each filter would be shorter, but would hide from the planner which filters
/// are set. With ten million rows, this decides between an index and a scan.
pub(super) struct Query<'a> {
    sql: String,
    values: Vec<(Value<'a>, Type)>,
    conditions: usize,
    /// The search reads the text of many rows, which takes time.
    reads_text: bool,
}

impl<'a> Query<'a> {
    /// Starts a search; `head` ends before the `WHERE`.
    pub(super) fn new(head: &str) -> Self {
        Self { sql: head.to_owned(), values: Vec::new(), conditions: 0, reads_text: false }
    }

    /// Starts a search with a value in its head: each `?` in `head` stands for `value`.
    pub(super) fn with(head: &str, value: impl ToSql + Sync + Send + 'a, ty: Type) -> Self {
        let mut query = Self::new(&head.replace('?', "$1"));
        query.values.push((Box::new(value), ty));
        query
    }

    /// Adds a condition; each `?` in it stands for `value`.
    pub(super) fn and(&mut self, condition: &'static str, value: impl ToSql + Sync + Send + 'a, ty: Type) {
        self.values.push((Box::new(value), ty));
        let placeholder = format!("${}", self.values.len());
        self.condition(&condition.replace('?', &placeholder));
    }

    /// Adds `condition` once for each of `patterns`, joined by `OR`. All of them search text. (`= ANY` of an array
    /// would be shorter, but cannot use a trigram index.)
    pub(super) fn and_any(&mut self, condition: &'static str, patterns: Vec<String>) {
        let alternatives: Vec<String> = patterns
            .into_iter()
            .map(|pattern| {
                self.values.push((Box::new(pattern), Type::TEXT));
                condition.replace('?', &format!("${}", self.values.len()))
            })
            .collect();
        self.condition(&format!("({})", alternatives.join(" OR ")));
        self.reads_text = true;
    }

    /// Adds a condition without a value.
    pub(super) fn and_that(&mut self, condition: &'static str) {
        self.condition(condition);
    }

    /// Adds the condition of a page; `?at` and `?id` in it stand for the cursor's values.
    pub(super) fn and_cursor(
        &mut self,
        condition: &'static str,
        at: impl ToSql + Sync + Send + 'a,
        id: uuid::Uuid,
    ) {
        self.values.push((Box::new(at), Type::TIMESTAMPTZ));
        self.values.push((Box::new(id), Type::UUID));
        let (at, id) = (self.values.len() - 1, self.values.len());
        self.condition(&condition.replace("?at", &format!("${at}")).replace("?id", &format!("${id}")));
    }

    /// Appends what follows the conditions, such as grouping and order.
    pub(super) fn end(&mut self, tail: &'static str) {
        self.sql.push(' ');
        self.sql.push_str(tail);
    }

    pub(super) fn limit(&mut self, rows: usize) {
        self.values.push((Box::new(i64::try_from(rows).unwrap_or(i64::MAX)), Type::INT8));
        // Writing to a String cannot fail.
        let _ = write!(self.sql, " LIMIT ${}", self.values.len());
    }

    fn condition(&mut self, condition: &str) {
        self.sql.push_str(if self.conditions == 0 { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.conditions += 1;
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    pub(super) const fn reads_text(&self) -> bool {
        self.reads_text
    }

    pub(super) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values
            .iter()
            .map(|(value, ty)| {
                let value: &(dyn ToSql + Sync) = value.as_ref();
                (value, ty.clone())
            })
            .collect()
    }
}

/// The values of one column for many rows, inserted with `UNNEST`.
pub(super) struct Column<'a> {
    name: &'static str,
    ty: &'static str,
    /// The SQL expression that is inserted: the column itself, or a conversion of it.
    read: &'static str,
    values: Value<'a>,
}

impl<'a> Column<'a> {
    pub(super) fn of<R, T: ToSql + Sync + Send + 'a>(
        name: &'static str,
        ty: &'static str,
        rows: &'a [R],
        value: impl Fn(&'a R) -> T,
    ) -> Self {
        Self { name, ty, read: name, values: Box::new(rows.iter().map(value).collect::<Vec<T>>()) }
    }

    pub(super) fn read_as(self, expression: &'static str) -> Self {
        Self { read: expression, ..self }
    }
}

/// One statement that inserts all rows. Existing rows stay unchanged.
pub(super) fn insert_all(table: &str, columns: &[Column<'_>]) -> String {
    let arrays = columns.iter().enumerate().map(|(n, column)| format!("${}::{}[]", n + 1, column.ty));
    let list = |part: fn(&Column<'_>) -> &'static str| -> String {
        columns.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let (names, reads) = (list(|column| column.name), list(|column| column.read));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO {table} ({names}) SELECT {reads} FROM UNNEST({arrays}) AS batch ({names}) ON CONFLICT DO NOTHING"
    )
}

pub(super) fn values_of<'c>(columns: &'c [Column<'_>]) -> Vec<&'c (dyn ToSql + Sync)> {
    columns
        .iter()
        .map(|column| {
            let values: &(dyn ToSql + Sync) = column.values.as_ref();
            values
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_joined_and_numbered() {
        let mut query = Query::new("SELECT 1 FROM t");
        query.and("(a = ? OR b = ?)", 1_i64, Type::INT8);
        query.and_that("c IS NULL");
        query.and_cursor("(d, e) < (?at, ?id)", jiff::Timestamp::UNIX_EPOCH, uuid::Uuid::nil());
        query.end("ORDER BY d");
        query.limit(5);
        assert_eq!(
            query.sql(),
            "SELECT 1 FROM t WHERE (a = $1 OR b = $1) AND c IS NULL AND (d, e) < ($2, $3) ORDER BY d LIMIT $4"
        );
        assert_eq!(query.params().len(), 4);
        assert_eq!(Query::new("SELECT 1").sql(), "SELECT 1");
    }

    #[test]
    fn inserts_name_their_columns_and_arrays() {
        let rows = [1_i64, 2];
        let b = Column::of("b", "text", &rows, |_| "x").read_as("upper(b)");
        let columns = [Column::of("a", "bigint", &rows, |n| *n), b];
        assert_eq!(
            insert_all("t", &columns),
            "INSERT INTO t (a, b) SELECT a, upper(b) FROM UNNEST($1::bigint[], $2::text[]) AS batch (a, b) \
             ON CONFLICT DO NOTHING"
        );
        assert_eq!(values_of(&columns).len(), 2);
    }
}
