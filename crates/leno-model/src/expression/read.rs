//! Reads an expression: tokens, then what they say, with its types. Every mistake has a column and a fix.
//!
//! Precedence is CEL's: `? :`, `||`, `&&`, relations, `+ -`, `* /`, `! -`, then `.name`, `[…]` and calls.

use super::{About, Fact, NESTING_MAX, Named, Node, OPERATIONS_MAX, One, Quantity, TEXT_MAX, Text, Two, Unreadable};

const NAMES: &str = "`weight`, `openRequests`, `occupancy`, `latencyMs`, `reported.utilization`, `reported.requestsPerSecond`, \
                     `reported.errorsPerSecond`, `zone`, `region`, `version`, `labels.NAME`, and of the caller `caller.zone`, `caller.region`, \
                     `caller.version`, `caller.labels.NAME`";
const FUNCTIONS: &str = "`math.least`, `math.greatest`, `math.abs`, `math.sqrt`, `double`, `has`, and of texts `startsWith`, \
                         `endsWith`, `contains`";
const RELATIONS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];

/// The longest first.
const SIGNS: [&str; 23] = [
    "<=", ">=", "==", "!=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]", ".", ",",
    "{",
];

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number { value: f64, is_whole: bool },
    Text(String),
    Name(String),
    Sign(&'static str),
    End,
}

/// Something that was read, by its type.
#[derive(Debug)]
enum Read {
    /// Of whole numbers that are written, CEL's division is another one.
    Number {
        node: Node,
        is_whole: bool,
    },
    Truth(Node),
    Text(Text),
    List(Vec<Text>),
    Labels {
        of_caller: bool,
    },
    Caller,
    Reported,
    Math,
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    next: usize,
    nesting: usize,
    operations: usize,
}

/// Reads an expression that gives a number.
pub(super) fn number(text: &str) -> Result<Node, Unreadable> {
    let length = text.chars().count();
    if length > TEXT_MAX {
        let message = format!("it has {length} characters, at most {TEXT_MAX} are read");
        return Err(wrong(1, message, "say less: what cannot be said in so much is not looked through by anybody"));
    }
    let mut reader = Reader { tokens: tokens(text)?, next: 0, nesting: 0, operations: 0 };
    if reader.peek() == &Token::End {
        return Err(wrong(
            1,
            "nothing is written",
            "write an expression that gives a number, for example `latencyMs * occupancy`",
        ));
    }
    let read = reader.expression()?;
    let column = reader.column();
    match reader.take() {
        Token::End => {}
        Token::Sign("{") => return Err(wrong(column, "nothing can be made here", "remove what stands in braces")),
        _ => {
            return Err(wrong(column, "the expression is over before this", "put an operator before it, or remove it"));
        }
    }
    match read {
        Read::Number { node, .. } => Ok(node),
        Read::Truth(_) => {
            Err(wrong(1, "it gives true or false, not a number", "write `… ? 1.0 : 2.0`, with the number for each"))
        }
        other => {
            Err(wrong(1, format!("it gives {}, not a number", other.what()), "compare it: `… == 'a' ? 1.0 : 2.0`"))
        }
    }
}

fn wrong(column: usize, message: impl Into<String>, fix: impl Into<String>) -> Unreadable {
    Unreadable { column, message: message.into(), fix: fix.into() }
}

// === tokens ===

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Unreadable> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(first) = characters.get(at).copied() {
        let column = at + 1;
        let rest = &characters[at..];
        let digits = |c: char| c.is_ascii_digit();
        if first.is_ascii_whitespace() {
            at += 1;
        } else if rest.starts_with(&['/', '/']) {
            at += rest.iter().take_while(|c| **c != '\n').count();
        } else if digits(first) || first == '.' && rest.get(1).copied().is_some_and(digits) {
            let (token, length) = number_of(rest, column)?;
            tokens.push((column, token));
            at += length;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let name: String = rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
            at += name.len();
            tokens.push((column, Token::Name(name)));
        } else if matches!(first, '\'' | '"') {
            let (text, length) = text_of(rest, column)?;
            tokens.push((column, Token::Text(text)));
            at += length;
        } else {
            let is_next = |sign: &&&str| sign.chars().zip(rest).filter(|(a, b)| a == *b).count() == sign.len();
            let Some(sign) = SIGNS.iter().find(is_next) else {
                let fix = match first {
                    '=' => "write `==`",
                    '&' => "write `&&`",
                    '|' => "write `||`",
                    _ => "remove it",
                };
                return Err(wrong(column, format!("`{first}` means nothing here"), fix));
            };
            tokens.push((column, Token::Sign(sign)));
            at += sign.len();
        }
    }
    tokens.push((characters.len() + 1, Token::End));
    Ok(tokens)
}

fn number_of(rest: &[char], column: usize) -> Result<(Token, usize), Unreadable> {
    let count = |from: usize| rest.iter().skip(from).take_while(|c| c.is_ascii_digit()).count();
    let mut length = count(0);
    let mut is_whole = true;
    if rest.get(length) == Some(&'.') && count(length + 1) > 0 {
        is_whole = false;
        length += 1 + count(length + 1);
    }
    if matches!(rest.get(length), Some('e' | 'E')) {
        let sign = usize::from(matches!(rest.get(length + 1), Some('+' | '-')));
        let digits = count(length + 1 + sign);
        if digits > 0 {
            is_whole = false;
            length += 1 + sign + digits;
        }
    }
    let written: String = rest[..length].iter().collect();
    let follows = rest.get(length).copied();
    let value = written.parse().ok().filter(|value: &f64| value.is_finite());
    let (Some(value), false) = (value, follows.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')) else {
        return Err(wrong(
            column,
            format!("`{written}` does not begin a number that is read here"),
            "write a number as `1`, `0.5` or `2e3`",
        ));
    };
    Ok((Token::Number { value, is_whole }, length))
}

fn text_of(rest: &[char], column: usize) -> Result<(String, usize), Unreadable> {
    let mut text = String::new();
    let mut at = 1;
    loop {
        match rest.get(at).copied() {
            Some(quote) if quote == rest[0] => return Ok((text, at + 1)),
            Some('\\') => {
                let escaped = match rest.get(at + 1) {
                    Some(same @ ('\\' | '\'' | '"')) => *same,
                    Some('n') => '\n',
                    Some('t') => '\t',
                    _ => {
                        return Err(wrong(
                            column + at,
                            "an escape that is not read here",
                            "write one of `\\\\ \\' \\\" \\n \\t`",
                        ));
                    }
                };
                text.push(escaped);
                at += 2;
            }
            Some('\n') | None => {
                return Err(wrong(column, "the text has no end", format!("close it with `{}`", rest[0])));
            }
            Some(character) => {
                text.push(character);
                at += 1;
            }
        }
    }
}

// === impl Reader ===

impl Reader {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(column, _)| *column)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// Takes this sign if it is next.
    fn takes(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Token::Sign(next) if *next == sign);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str, why: &str) -> Result<(), Unreadable> {
        let column = self.column();
        if self.takes(sign) {
            return Ok(());
        }
        Err(wrong(column, format!("`{sign}` is missing {why}"), format!("write `{sign}` before this")))
    }

    fn count(&mut self, column: usize) -> Result<(), Unreadable> {
        self.operations += 1;
        if self.operations > OPERATIONS_MAX {
            let message = format!("it costs too much: from here on it has more than {OPERATIONS_MAX} operations");
            let fix =
                "use fewer operators, calls and entries of lists; give the instances a label that says the result";
            return Err(wrong(column, message, fix));
        }
        Ok(())
    }

    fn expression(&mut self) -> Result<Read, Unreadable> {
        self.nesting += 1;
        let column = self.column();
        if self.nesting > NESTING_MAX {
            let message = format!("more than {NESTING_MAX} parentheses, calls and choices stand within each other");
            return Err(wrong(column, message, "write it with fewer of them within each other"));
        }
        let first = self.disjunction()?;
        let question = self.column();
        let read = if self.takes("?") {
            self.count(question)?;
            let when = first.truth(column, "before `?`")?;
            let (then_column, then) = (self.column(), self.disjunction()?);
            self.expect(":", "in a choice")?;
            let (else_column, otherwise) = (self.column(), self.expression()?);
            match (then, otherwise) {
                (Read::Number { node: a, .. }, Read::Number { node: b, .. }) => {
                    Read::Number { node: Node::Choice(Box::new([when, a, b])), is_whole: false }
                }
                (Read::Truth(a), Read::Truth(b)) => Read::Truth(Node::Choice(Box::new([when, a, b]))),
                (Read::Number { .. } | Read::Truth(_), other) => {
                    let message = format!("one of the choices is {}, and the other is not", other.what());
                    return Err(wrong(else_column, message, "write two numbers, or two that are true or false"));
                }
                (other, _) => {
                    let message = format!("{} cannot be chosen", other.what());
                    return Err(wrong(then_column, message, "choose between numbers"));
                }
            }
        } else {
            first
        };
        self.nesting -= 1;
        Ok(read)
    }

    fn disjunction(&mut self) -> Result<Read, Unreadable> {
        self.logical("||", Two::Or, |reader| reader.logical("&&", Two::And, Self::relation))
    }

    fn logical(
        &mut self,
        sign: &str,
        two: Two,
        part: impl Fn(&mut Self) -> Result<Read, Unreadable>,
    ) -> Result<Read, Unreadable> {
        let column = self.column();
        let mut left = part(self)?;
        loop {
            let at = self.column();
            if !self.takes(sign) {
                return Ok(left);
            }
            self.count(at)?;
            let beside = format!("beside `{sign}`");
            let right_column = self.column();
            let right = part(self)?.truth(right_column, &beside)?;
            left = Read::Truth(Node::Two(two, Box::new(left.truth(column, &beside)?), Box::new(right)));
        }
    }

    fn relation(&mut self) -> Result<Read, Unreadable> {
        let column = self.column();
        let mut left = self.sum()?;
        loop {
            let at = self.column();
            let is_in = self.peek() == &Token::Name("in".to_owned());
            if is_in {
                self.next += 1;
                self.count(at)?;
                let (right_column, right) = (self.column(), self.sum()?);
                left = within(column, left, right_column, right)?;
                continue;
            }
            let Some(sign) = RELATIONS.iter().find(|sign| self.takes(sign)) else { return Ok(left) };
            self.count(at)?;
            let right = self.sum()?;
            left = Read::Truth(compared(at, sign, left, right)?);
        }
    }

    fn sum(&mut self) -> Result<Read, Unreadable> {
        self.arithmetic([("+", Two::Add), ("-", Two::Subtract)], |reader| {
            reader.arithmetic([("*", Two::Multiply), ("/", Two::Divide)], Self::unary)
        })
    }

    fn arithmetic(
        &mut self,
        signs: [(&'static str, Two); 2],
        part: impl Fn(&mut Self) -> Result<Read, Unreadable>,
    ) -> Result<Read, Unreadable> {
        let column = self.column();
        let mut left = part(self)?;
        loop {
            let at = self.column();
            if matches!(self.peek(), Token::Sign("%")) {
                return Err(wrong(at, "`%` is for whole numbers, and here all have a fraction", "remove it"));
            }
            let Some((sign, two)) = signs.into_iter().find(|(sign, _)| self.takes(sign)) else { return Ok(left) };
            self.count(at)?;
            let beside = format!("beside `{sign}`");
            let right_column = self.column();
            let (right, right_whole) = part(self)?.number(right_column, &beside)?;
            let (node, left_whole) = left.number(column, &beside)?;
            let is_whole = left_whole && right_whole;
            if is_whole && two == Two::Divide {
                let fix = "write a fraction, as `1.0 / 2.0`";
                return Err(wrong(at, "one whole number divided by another loses its fraction in CEL", fix));
            }
            left = Read::Number { node: Node::Two(two, Box::new(node), Box::new(right)), is_whole };
        }
    }

    fn unary(&mut self) -> Result<Read, Unreadable> {
        let column = self.column();
        let mut signs = Vec::new();
        loop {
            let at = self.column();
            let one = match self.peek() {
                Token::Sign("-") => One::Minus,
                Token::Sign("!") => One::Not,
                _ => break,
            };
            self.count(at)?;
            self.next += 1;
            signs.push(one);
        }
        let mut read = self.member()?;
        for one in signs.into_iter().rev() {
            read = match one {
                One::Not => Read::Truth(Node::One(one, Box::new(read.truth(column, "behind `!`")?))),
                _ => {
                    let (node, is_whole) = read.number(column, "behind `-`")?;
                    Read::Number { node: Node::One(one, Box::new(node)), is_whole }
                }
            };
        }
        Ok(read)
    }

    fn member(&mut self) -> Result<Read, Unreadable> {
        let mut read = self.primary()?;
        loop {
            let column = self.column();
            if self.takes(".") {
                let at = self.column();
                let Token::Name(name) = self.take() else {
                    return Err(wrong(
                        at,
                        "a name is missing behind `.`",
                        "write one, as in `labels.tier`; others as `labels['my-label']`",
                    ));
                };
                read = match self.peek() {
                    Token::Sign("(") => self.call_on(at, read, &name)?,
                    _ => field(at, read, name)?,
                };
            } else if self.takes("[") {
                let Read::Labels { of_caller } = read else {
                    return Err(wrong(column, format!("{} has no entries", read.what()), "write it behind `labels`"));
                };
                let at = self.column();
                let Token::Text(label) = self.take() else {
                    return Err(wrong(at, "a label is named by a text that is written", "write `labels['name']`"));
                };
                self.expect("]", "behind the label")?;
                read = Read::Text(Text::Of(Fact { of_caller, name: Named::Label(label) }));
            } else {
                return Ok(read);
            }
        }
    }

    fn primary(&mut self) -> Result<Read, Unreadable> {
        let column = self.column();
        match self.take() {
            Token::Number { value, is_whole } => Ok(Read::Number { node: Node::Number(value), is_whole }),
            Token::Text(text) => Ok(Read::Text(Text::Written(text))),
            Token::Name(name) => match self.peek() {
                Token::Sign("(") => self.call(column, &name),
                _ => named(column, &name),
            },
            Token::Sign("(") => {
                let read = self.expression()?;
                self.expect(")", "behind what stands in parentheses")?;
                Ok(read)
            }
            Token::Sign("[") => self.list(),
            Token::Sign(sign) => Err(wrong(
                column,
                format!("`{sign}` stands where a value belongs"),
                "write a number or a name before it",
            )),
            Token::End => Err(wrong(column, "the expression ends where a value belongs", "write a number or a name")),
        }
    }

    fn list(&mut self) -> Result<Read, Unreadable> {
        let mut texts = Vec::new();
        loop {
            let column = self.column();
            if self.takes("]") {
                return Ok(Read::List(texts));
            }
            self.count(column)?;
            match self.expression()? {
                Read::Text(text) => texts.push(text),
                other => {
                    let message = format!("a list is of texts, and this is {}", other.what());
                    return Err(wrong(
                        column,
                        message,
                        "write texts, as in `zone in ['a', 'b']`; compare numbers one by one",
                    ));
                }
            }
            if !matches!(self.peek(), Token::Sign("]")) {
                self.expect(",", "in a list")?;
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<(usize, Read)>, Unreadable> {
        self.expect("(", "behind a function")?;
        let mut arguments = Vec::new();
        while !self.takes(")") {
            arguments.push((self.column(), self.expression()?));
            if !matches!(self.peek(), Token::Sign(")")) {
                self.expect(",", "between arguments")?;
            }
        }
        Ok(arguments)
    }

    fn call(&mut self, column: usize, name: &str) -> Result<Read, Unreadable> {
        self.count(column)?;
        match name {
            "has" => return self.has(),
            "double" => {}
            _ => return Err(unknown_function(column, name)),
        }
        let mut arguments = self.arguments()?;
        match (arguments.pop(), arguments.len()) {
            (Some((at, read)), 0) => {
                let (node, _) = read.number(at, "in `double`")?;
                Ok(Read::Number { node, is_whole: false })
            }
            (last, count) => Err(arity(column, name, "one number", count + usize::from(last.is_some()))),
        }
    }

    /// `has(labels.tier)`, `has(reported.utilization)`.
    fn has(&mut self) -> Result<Read, Unreadable> {
        self.expect("(", "behind `has`")?;
        let column = self.column();
        let read = self.expression()?;
        self.expect(")", "behind `has(…`")?;
        match read {
            Read::Text(Text::Of(fact)) => Ok(Read::Truth(Node::About(About::Has(fact)))),
            Read::Number {
                node: Node::Of(Quantity::Utilization | Quantity::RequestsPerSecond | Quantity::ErrorsPerSecond),
                ..
            } => Ok(Read::Truth(Node::Of(Quantity::IsReported))),
            _ => Err(wrong(
                column,
                "`has` asks for something that may be missing",
                "write `has(labels.tier)`, `has(caller.zone)` or `has(reported.utilization)`",
            )),
        }
    }

    fn call_on(&mut self, column: usize, on: Read, name: &str) -> Result<Read, Unreadable> {
        self.count(column)?;
        let (about, text): (fn(Text, Text) -> About, Text) = match (on, name) {
            (Read::Math, "least" | "greatest" | "abs" | "sqrt") => {
                let arguments = self.arguments()?;
                return math(self, column, name, arguments);
            }
            (Read::Text(text), "startsWith") => (About::Begins, text),
            (Read::Text(text), "endsWith") => (About::Ends, text),
            (Read::Text(text), "contains") => (About::Contains, text),
            _ => return Err(unknown_function(column, name)),
        };
        let mut arguments = self.arguments()?;
        match (arguments.pop(), arguments.len()) {
            (Some((_, Read::Text(other))), 0) => Ok(Read::Truth(Node::About(about(text, other)))),
            (last, count) => Err(arity(column, name, "one text", count + usize::from(last.is_some()))),
        }
    }
}

// === impl Read ===

impl Read {
    fn what(&self) -> &'static str {
        match self {
            Self::Number { .. } => "a number",
            Self::Truth(_) => "true or false",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Labels { .. } => "all labels",
            Self::Caller => "the whole caller",
            Self::Reported => "a whole report",
            Self::Math => "`math`",
        }
    }

    fn number(self, column: usize, place: &str) -> Result<(Node, bool), Unreadable> {
        match self {
            Self::Number { node, is_whole } => Ok((node, is_whole)),
            other => Err(mistyped(column, place, "a number", &other)),
        }
    }

    fn truth(self, column: usize, place: &str) -> Result<Node, Unreadable> {
        match self {
            Self::Truth(node) => Ok(node),
            other => Err(mistyped(column, place, "true or false", &other)),
        }
    }
}

fn mistyped(column: usize, place: &str, wanted: &str, got: &Read) -> Unreadable {
    let fix = match (wanted, got) {
        ("a number", Read::Truth(_)) => "make it one: `(… ? 1.0 : 0.0)`",
        ("a number", Read::Text(_)) => "compare the text: `(… == 'a' ? 1.0 : 0.0)`",
        ("a number", Read::Reported) => "name a part of it, as `reported.utilization`",
        (_, Read::Number { .. }) => "compare it, as in `latencyMs > 50.0`",
        _ => "name a part of it, or compare it",
    };
    wrong(column, format!("{place} belongs what is {wanted}, and this is {}", got.what()), fix)
}

fn arity(column: usize, name: &str, wanted: &str, count: usize) -> Unreadable {
    wrong(
        column,
        format!("`{name}` takes {wanted}, here it has {count} arguments or another type"),
        format!("give it {wanted}"),
    )
}

fn unknown_function(column: usize, name: &str) -> Unreadable {
    let loops = ["all", "exists", "exists_one", "map", "filter"];
    let message = match loops.contains(&name) {
        true => format!("`{name}` goes through a list, and what it costs would not be known ahead"),
        false => format!("`{name}` is no function that is known here"),
    };
    wrong(column, message, format!("use {FUNCTIONS}"))
}

fn named(column: usize, name: &str) -> Result<Read, Unreadable> {
    let number = |node| Ok(Read::Number { node, is_whole: false });
    let fact = |name| Ok(Read::Text(Text::Of(Fact { of_caller: false, name })));
    match name {
        "weight" => number(Node::Weight),
        "openRequests" => number(Node::Of(Quantity::OpenRequests)),
        "occupancy" => number(Node::Of(Quantity::Occupancy)),
        "latencyMs" => number(Node::Of(Quantity::LatencyMs)),
        "true" | "false" => Ok(Read::Truth(Node::Number(super::truth(name == "true")))),
        "zone" => fact(Named::Zone),
        "region" => fact(Named::Region),
        "version" => fact(Named::Version),
        "labels" => Ok(Read::Labels { of_caller: false }),
        "caller" => Ok(Read::Caller),
        "reported" => Ok(Read::Reported),
        "math" => Ok(Read::Math),
        _ => Err(wrong(column, format!("`{name}` is not known here"), format!("use one of {NAMES}"))),
    }
}

fn field(column: usize, of: Read, name: String) -> Result<Read, Unreadable> {
    let fact = |name| Ok(Read::Text(Text::Of(Fact { of_caller: true, name })));
    let reported = |quantity| Ok(Read::Number { node: Node::Of(quantity), is_whole: false });
    match (of, name.as_str()) {
        (Read::Labels { of_caller }, _) => Ok(Read::Text(Text::Of(Fact { of_caller, name: Named::Label(name) }))),
        (Read::Caller, "zone") => fact(Named::Zone),
        (Read::Caller, "region") => fact(Named::Region),
        (Read::Caller, "version") => fact(Named::Version),
        (Read::Caller, "labels") => Ok(Read::Labels { of_caller: true }),
        (Read::Reported, "utilization") => reported(Quantity::Utilization),
        (Read::Reported, "requestsPerSecond") => reported(Quantity::RequestsPerSecond),
        (Read::Reported, "errorsPerSecond") => reported(Quantity::ErrorsPerSecond),
        (of, _) => Err(wrong(column, format!("{} has no `{name}`", of.what()), format!("use one of {NAMES}"))),
    }
}

fn math(reader: &mut Reader, column: usize, name: &str, arguments: Vec<(usize, Read)>) -> Result<Read, Unreadable> {
    let count = arguments.len();
    let place = format!("in `math.{name}`");
    let numbers: Result<Vec<Node>, Unreadable> =
        arguments.into_iter().map(|(at, read)| Ok(read.number(at, &place)?.0)).collect();
    let mut numbers = numbers?.into_iter();
    let node = match (name, count) {
        ("abs" | "sqrt", 1) => {
            let one = if name == "abs" { One::Absolute } else { One::Root };
            numbers.next().map(|node| Node::One(one, Box::new(node)))
        }
        ("abs" | "sqrt", _) => return Err(arity(column, name, "one number", count)),
        ("least" | "greatest", 1..) => {
            let two = if name == "least" { Two::Least } else { Two::Greatest };
            for _ in 2..count {
                reader.count(column)?;
            }
            numbers.reduce(|left, right| Node::Two(two, Box::new(left), Box::new(right)))
        }
        _ => None,
    };
    node.map(|node| Read::Number { node, is_whole: false }).ok_or_else(|| arity(column, name, "numbers", count))
}

fn within(column: usize, left: Read, right_column: usize, right: Read) -> Result<Read, Unreadable> {
    let Read::Text(left) = left else {
        return Err(wrong(
            column,
            format!("{} cannot stand before `in`", left.what()),
            "write a text, as in `zone in ['a', 'b']`",
        ));
    };
    match (left, right) {
        (text, Read::List(list)) => Ok(Read::Truth(Node::About(About::Within(text, list.into())))),
        (Text::Written(label), Read::Labels { of_caller }) => {
            Ok(Read::Truth(Node::About(About::Has(Fact { of_caller, name: Named::Label(label) }))))
        }
        (_, other) => {
            let message = format!("nothing is in {}", other.what());
            Err(wrong(right_column, message, "write a list, as in `zone in ['a', 'b']`, or `'tier' in labels`"))
        }
    }
}

fn compared(column: usize, sign: &str, left: Read, right: Read) -> Result<Node, Unreadable> {
    let two = |two, left: Node, right: Node| Node::Two(two, Box::new(left), Box::new(right));
    match (left, right) {
        (Read::Number { node: left, .. }, Read::Number { node: right, .. }) => Ok(match sign {
            "<" => two(Two::Less, left, right),
            "<=" => two(Two::LessOrEqual, left, right),
            ">" => two(Two::Less, right, left),
            ">=" => two(Two::LessOrEqual, right, left),
            "==" => two(Two::Equal, left, right),
            _ => two(Two::NotEqual, left, right),
        }),
        (Read::Truth(left), Read::Truth(right)) if matches!(sign, "==" | "!=") => {
            Ok(two(if sign == "==" { Two::Equal } else { Two::NotEqual }, left, right))
        }
        (Read::Text(left), Read::Text(right)) if matches!(sign, "==" | "!=") => {
            let same = Node::About(About::Same(left, right));
            Ok(if sign == "==" { same } else { Node::One(One::Not, Box::new(same)) })
        }
        (left, right) => {
            let message = format!("`{sign}` does not compare {} and {}", left.what(), right.what());
            Err(wrong(column, message, "compare two numbers, or two texts by `==` and `!=`"))
        }
    }
}
