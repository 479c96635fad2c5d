//! Every `provisiond …` that a document shows is understood by the program.

use std::collections::BTreeMap;

use super::{documents, provisiond};

/// The commands of a line of shell, each in words. Quotes hold words together; what is behind `#` is a comment.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';' | '(' | ')' | '<' | '>') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

/// The arguments of provisiond, where it is what is run: after variables, `sudo` and the like.
fn arguments(words: &[String]) -> Option<&[String]> {
    let index = words.iter().position(|word| word == "provisiond" || word.ends_with("/provisiond"))?;
    let is_prefix = |word: &String| word.contains('=') || word == "sudo" || word == "exec" || word == "!";
    words[..index].iter().all(is_prefix).then(|| &words[index + 1..])
}

/// What is wrong with a command.
fn wrong(arguments: &[String], helps: &mut BTreeMap<Vec<String>, Result<String, String>>) -> Option<String> {
    // ID stands for one of the reader's.
    let is_name = |word: &&String| !word.starts_with('-') && *word != "ID";
    let path: Vec<String> = arguments.iter().take_while(is_name).cloned().collect();
    let help = helps.entry(path.clone()).or_insert_with(|| {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let output = provisiond(&args);
        let (out, err) = (output.stdout, output.stderr);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        if output.status.success() { Ok(text(out)) } else { Err(text(err)) }
    });
    let help = match help {
        Ok(help) => help,
        Err(error) => return Some(error.clone()),
    };
    let is_known = |flag: &str| {
        help.match_indices(flag).any(|(index, _)| {
            let rest = &help[index + flag.len()..];
            !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    let flags = arguments.iter().filter(|word| word.starts_with('-') && word.len() > 1 && *word != "--");
    let mut flags = flags.map(|word| word.split('=').next().unwrap_or(word));
    flags.find(|flag| !is_known(flag)).map(|flag| format!("{flag} is no option of it"))
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let (mut helps, mut seen, mut found) = (BTreeMap::new(), 0, Vec::new());
    for document in documents() {
        let shown = document.lines(Some("sh")).into_iter().chain(document.spans());
        for line in shown.filter(|line| line.text.contains("provisiond ") && !line.text.contains('…')) {
            for words in commands(line.text.trim_end_matches('\\')) {
                let Some(arguments) = arguments(&words) else { continue };
                seen += 1;
                if let Some(wrong) = wrong(arguments, &mut helps) {
                    found.push(format!("{}: {}: {wrong}", line.place, line.text));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(seen > 40, "only {seen} commands were found");
}

#[test]
fn a_wrong_command_would_be_found() {
    let mut helps = BTreeMap::new();
    let mut check = |line: &str| {
        let commands = commands(line);
        wrong(arguments(&commands[0]).expect("provisiond"), &mut helps)
    };
    assert_eq!(check("X=1 sudo provisiond handlers list --status enabled | jq '.[0]' # all"), None);
    assert!(check("provisiond handlers lists").is_some());
    assert!(check("provisiond handlers list --stat enabled").is_some());
    assert!(check("provisiond publish clients.create --object-id 12 --wait").is_none());
}
