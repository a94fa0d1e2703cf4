//! A Rust file as a flat list of tokens: comments are gone and strings are single tokens, so a
//! search in it finds code only. Macro bodies (`proptest!`) are tokens like all others.

use std::ops::Range;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token.
pub struct Token {
    /// As written; a bracket is a token of its own.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
    /// For an opening bracket, the index of its closing one.
    close: Option<usize>,
}

impl Token {
    fn new(text: &str, line: usize) -> Self {
        Self {
            text: text.to_owned(),
            line,
            close: None,
        }
    }
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of the word `fn`, from 1.
    pub line: usize,
    /// Lines from there to the closing brace.
    pub line_count: usize,
}

/// All tokens of a file.
pub struct Source {
    tokens: Vec<Token>,
}

impl Source {
    /// Takes a file apart.
    pub fn parse(text: &str) -> Result<Self> {
        let stream: TokenStream = text
            .parse()
            .map_err(|error| anyhow!("not a Rust file: {error}"))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Ok(Self { tokens })
    }

    /// All tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Where these tokens (separated by blanks in `pattern`) stand one after the other.
    pub fn find<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
        let words: Vec<&str> = pattern.split(' ').collect();
        let starts = self.tokens.len().saturating_sub(words.len() - 1);
        (0..starts).filter(move |&start| {
            let here = self.tokens[start..].iter().map(|token| token.text.as_str());
            here.zip(&words).all(|(token, word)| token == *word)
        })
    }

    /// All functions with a body.
    pub fn functions(&self) -> Vec<Function> {
        (0..self.tokens.len())
            .filter_map(|index| self.function_at(index))
            .collect()
    }

    /// The names of all functions marked as tests.
    pub fn test_names(&self) -> Vec<String> {
        self.find("# [ test ]")
            .filter_map(|mark| (mark..self.tokens.len()).find_map(|index| self.function_at(index)))
            .map(|function| function.name)
            .collect()
    }

    /// The tokens of items that are only there in test builds.
    pub fn test_only(&self) -> Vec<Range<usize>> {
        self.find("# [ cfg (")
            .filter_map(|mark| {
                let close = self.tokens[mark + 3].close?;
                let mut condition = self.tokens[mark..close].iter();
                condition.find(|token| token.text == "test")?;
                let open = self.body_after(close)?;
                Some(mark..self.tokens[open].close?)
            })
            .collect()
    }

    fn function_at(&self, index: usize) -> Option<Function> {
        let name = &self.tokens.get(index + 1)?.text;
        let token = &self.tokens[index];
        if token.text != "fn" || !name.starts_with(|c: char| c == '_' || c.is_alphabetic()) {
            return None;
        }
        let close = self.tokens[self.body_after(index + 2)?].close?;
        Some(Function {
            name: name.clone(),
            line: token.line,
            line_count: self.tokens[close].line + 1 - token.line,
        })
    }

    /// The brace that opens the body of the item whose head goes on at `index`, if it has one.
    fn body_after(&self, mut index: usize) -> Option<usize> {
        loop {
            let token = self.tokens.get(index)?;
            match (token.text.as_str(), token.close) {
                ("{", _) => return Some(index),
                (";", _) => return None,
                (_, Some(close)) => index = close + 1,
                _ => index += 1,
            }
        }
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let TokenTree::Group(group) = tree else {
            tokens.push(Token::new(&tree.to_string(), line));
            continue;
        };
        let (open, shut) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        let opened = tokens.len();
        tokens.push(Token::new(open, line));
        flatten(group.stream(), tokens);
        tokens[opened].close = Some(tokens.len());
        tokens.push(Token::new(shut, group.span_close().end().line));
    }
}
