//! The attribute of the tests that need a runtime of their own.

use proc_macro::TokenStream;

/// A test with a runtime of two threads: it may block one of them, for example while a command runs, and what it
/// serves is still served.
#[proc_macro_attribute]
pub fn blocking_test(_arguments: TokenStream, function: TokenStream) -> TokenStream {
    let attribute = r#"#[::tokio::test(flavor = "multi_thread", worker_threads = 2)]"#;
    let mut test: TokenStream = attribute.parse().expect("an attribute");
    test.extend(function);
    test
}
