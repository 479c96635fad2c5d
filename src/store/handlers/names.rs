//! The names of handlers that were deleted, from their history.

/// SQL for the last name of the handler whose id is the expression `$id`; null where it has no history.
///
/// A look into an index a row: only for few rows, or as the second of a `coalesce`, which PostgreSQL asks for only where the
/// first is null.
macro_rules! last_name {
    ($id:literal) => {
        concat!(
            "(SELECT coalesce(past.after, past.before) ->> 'name' FROM handler_history past WHERE past.handler_id = ",
            $id,
            " ORDER BY past.id DESC LIMIT 1)"
        )
    };
}

pub(in crate::store) use last_name;
