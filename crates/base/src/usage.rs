//! What a command says when it cannot do what was asked: one line, and an exit status of its own when the
//! command line was wrong.

/// Exit status of a wrong command line.
///
/// upstream counterpart: EX_USAGE of sysexits.h
pub const EXIT_USAGE: u8 = 64;

/// A text in one line.
pub fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// The one line for what a parser of command lines says in a page: its message and its tips, without the
/// usage of the whole command; `command` is what tells more when it is asked for help.
pub fn wrong(rendered: &str, command: &str) -> String {
    let text = rendered.trim_start().trim_start_matches("error: ");
    let mut said = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        if !said.is_empty() {
            said.push(' ');
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => said.push_str(&format!("({tip})")),
            None => said.push_str(line),
        }
    }
    format!("{said}; run {command} --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_a_line() {
        let page = "error: unexpected argument '--prt' found\n\n  tip: a similar argument exists: '--port'\n\nUsage: a b --port <PORT>\n\nFor more information, try '--help'.\n";
        let line = "unexpected argument '--prt' found (a similar argument exists: '--port'); run a b --help";
        assert_eq!(wrong(page, "a b"), line);
        let page = "error: the following required arguments were not provided:\n  <FILE>...\n\nUsage: a <FILE>...\n";
        let line = "the following required arguments were not provided: <FILE>...; run a --help";
        assert_eq!(wrong(page, "a"), line);
    }

    #[test]
    fn lines_are_joined() {
        assert_eq!(one_line("a\n  b\n\nc\n"), "a b c");
    }
}
