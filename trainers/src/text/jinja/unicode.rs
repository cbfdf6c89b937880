//! What Python's strings know about characters, where Rust's own methods say something else.
//!
//! The tables are CPython 3.11's (Unicode 14), written by `tests/golden/generator/jinja_unicode.py`.
use std::sync::LazyLock;

use fancy_regex::Regex;

/// Digits that are no decimals: superscripts, circled numbers.
#[rustfmt::skip]
const DIGITS: [(char, char); 20] = [
    ('\u{b2}', '\u{b3}'), ('\u{b9}', '\u{b9}'), ('\u{1369}', '\u{1371}'), ('\u{19da}', '\u{19da}'),
    ('\u{2070}', '\u{2070}'), ('\u{2074}', '\u{2079}'), ('\u{2080}', '\u{2089}'), ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'), ('\u{2488}', '\u{2490}'), ('\u{24ea}', '\u{24ea}'), ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'), ('\u{2776}', '\u{277e}'), ('\u{2780}', '\u{2788}'), ('\u{278a}', '\u{2792}'),
    ('\u{10a40}', '\u{10a43}'), ('\u{10e60}', '\u{10e68}'), ('\u{11052}', '\u{1105a}'), ('\u{1f100}', '\u{1f10a}'),
];
/// Letters that are numbers: CJK numerals.
#[rustfmt::skip]
const NUMERALS: [(char, char); 72] = [
    ('\u{3405}', '\u{3405}'), ('\u{3483}', '\u{3483}'), ('\u{382a}', '\u{382a}'), ('\u{3b4d}', '\u{3b4d}'),
    ('\u{4e00}', '\u{4e00}'), ('\u{4e03}', '\u{4e03}'), ('\u{4e07}', '\u{4e07}'), ('\u{4e09}', '\u{4e09}'),
    ('\u{4e5d}', '\u{4e5d}'), ('\u{4e8c}', '\u{4e8c}'), ('\u{4e94}', '\u{4e94}'), ('\u{4e96}', '\u{4e96}'),
    ('\u{4ebf}', '\u{4ec0}'), ('\u{4edf}', '\u{4edf}'), ('\u{4ee8}', '\u{4ee8}'), ('\u{4f0d}', '\u{4f0d}'),
    ('\u{4f70}', '\u{4f70}'), ('\u{5104}', '\u{5104}'), ('\u{5146}', '\u{5146}'), ('\u{5169}', '\u{5169}'),
    ('\u{516b}', '\u{516b}'), ('\u{516d}', '\u{516d}'), ('\u{5341}', '\u{5341}'), ('\u{5343}', '\u{5345}'),
    ('\u{534c}', '\u{534c}'), ('\u{53c1}', '\u{53c4}'), ('\u{56db}', '\u{56db}'), ('\u{58f1}', '\u{58f1}'),
    ('\u{58f9}', '\u{58f9}'), ('\u{5e7a}', '\u{5e7a}'), ('\u{5efe}', '\u{5eff}'), ('\u{5f0c}', '\u{5f0e}'),
    ('\u{5f10}', '\u{5f10}'), ('\u{62fe}', '\u{62fe}'), ('\u{634c}', '\u{634c}'), ('\u{67d2}', '\u{67d2}'),
    ('\u{6f06}', '\u{6f06}'), ('\u{7396}', '\u{7396}'), ('\u{767e}', '\u{767e}'), ('\u{8086}', '\u{8086}'),
    ('\u{842c}', '\u{842c}'), ('\u{8cae}', '\u{8cae}'), ('\u{8cb3}', '\u{8cb3}'), ('\u{8d30}', '\u{8d30}'),
    ('\u{9621}', '\u{9621}'), ('\u{9646}', '\u{9646}'), ('\u{964c}', '\u{964c}'), ('\u{9678}', '\u{9678}'),
    ('\u{96f6}', '\u{96f6}'), ('\u{f96b}', '\u{f96b}'), ('\u{f973}', '\u{f973}'), ('\u{f978}', '\u{f978}'),
    ('\u{f9b2}', '\u{f9b2}'), ('\u{f9d1}', '\u{f9d1}'), ('\u{f9d3}', '\u{f9d3}'), ('\u{f9fd}', '\u{f9fd}'),
    ('\u{20001}', '\u{20001}'), ('\u{20064}', '\u{20064}'), ('\u{200e2}', '\u{200e2}'), ('\u{20121}', '\u{20121}'),
    ('\u{2092a}', '\u{2092a}'), ('\u{20983}', '\u{20983}'), ('\u{2098c}', '\u{2098c}'), ('\u{2099c}', '\u{2099c}'),
    ('\u{20aea}', '\u{20aea}'), ('\u{20afd}', '\u{20afd}'), ('\u{20b19}', '\u{20b19}'), ('\u{22390}', '\u{22390}'),
    ('\u{22998}', '\u{22998}'), ('\u{23b1b}', '\u{23b1b}'), ('\u{2626d}', '\u{2626d}'), ('\u{2f890}', '\u{2f890}'),
];
/// Title-case letters (Lt).
#[rustfmt::skip]
const TITLE_CASE: [(char, char); 10] = [
    ('\u{1c5}', '\u{1c5}'), ('\u{1c8}', '\u{1c8}'), ('\u{1cb}', '\u{1cb}'), ('\u{1f2}', '\u{1f2}'),
    ('\u{1f88}', '\u{1f8f}'), ('\u{1f98}', '\u{1f9f}'), ('\u{1fa8}', '\u{1faf}'), ('\u{1fbc}', '\u{1fbc}'),
    ('\u{1fcc}', '\u{1fcc}'), ('\u{1ffc}', '\u{1ffc}'),
];
/// The zero of each script's decimals; the other nine follow it.
#[rustfmt::skip]
const ZEROS: [char; 66] = [
    '\u{30}', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{1090}', '\u{17e0}',
    '\u{1810}', '\u{1946}', '\u{19d0}', '\u{1a80}', '\u{1a90}', '\u{1b50}', '\u{1bb0}', '\u{1c40}', '\u{1c50}',
    '\u{a620}', '\u{a8d0}', '\u{a900}', '\u{a9d0}', '\u{a9f0}', '\u{aa50}', '\u{abf0}', '\u{ff10}', '\u{104a0}',
    '\u{10d30}', '\u{11066}', '\u{110f0}', '\u{11136}', '\u{111d0}', '\u{112f0}', '\u{11450}', '\u{114d0}', '\u{11650}',
    '\u{116c0}', '\u{11730}', '\u{118e0}', '\u{11950}', '\u{11c50}', '\u{11d50}', '\u{11da0}', '\u{16a60}', '\u{16ac0}',
    '\u{16b50}', '\u{1d7ce}', '\u{1d7d8}', '\u{1d7e2}', '\u{1d7ec}', '\u{1d7f6}', '\u{1e140}', '\u{1e2f0}', '\u{1e950}',
    '\u{1fbf0}',
];
/// Title case, where it is not the upper case with all but its first character in lower case.
#[rustfmt::skip]
const TITLE: [(char, &str); 122] = [
    ('\u{149}', "\u{2bc}\u{4e}"), ('\u{1c4}', "\u{1c5}"), ('\u{1c5}', "\u{1c5}"), ('\u{1c6}', "\u{1c5}"),
    ('\u{1c7}', "\u{1c8}"), ('\u{1c8}', "\u{1c8}"), ('\u{1c9}', "\u{1c8}"), ('\u{1ca}', "\u{1cb}"),
    ('\u{1cb}', "\u{1cb}"), ('\u{1cc}', "\u{1cb}"), ('\u{1f1}', "\u{1f2}"), ('\u{1f2}', "\u{1f2}"),
    ('\u{1f3}', "\u{1f2}"), ('\u{10d0}', "\u{10d0}"), ('\u{10d1}', "\u{10d1}"), ('\u{10d2}', "\u{10d2}"),
    ('\u{10d3}', "\u{10d3}"), ('\u{10d4}', "\u{10d4}"), ('\u{10d5}', "\u{10d5}"), ('\u{10d6}', "\u{10d6}"),
    ('\u{10d7}', "\u{10d7}"), ('\u{10d8}', "\u{10d8}"), ('\u{10d9}', "\u{10d9}"), ('\u{10da}', "\u{10da}"),
    ('\u{10db}', "\u{10db}"), ('\u{10dc}', "\u{10dc}"), ('\u{10dd}', "\u{10dd}"), ('\u{10de}', "\u{10de}"),
    ('\u{10df}', "\u{10df}"), ('\u{10e0}', "\u{10e0}"), ('\u{10e1}', "\u{10e1}"), ('\u{10e2}', "\u{10e2}"),
    ('\u{10e3}', "\u{10e3}"), ('\u{10e4}', "\u{10e4}"), ('\u{10e5}', "\u{10e5}"), ('\u{10e6}', "\u{10e6}"),
    ('\u{10e7}', "\u{10e7}"), ('\u{10e8}', "\u{10e8}"), ('\u{10e9}', "\u{10e9}"), ('\u{10ea}', "\u{10ea}"),
    ('\u{10eb}', "\u{10eb}"), ('\u{10ec}', "\u{10ec}"), ('\u{10ed}', "\u{10ed}"), ('\u{10ee}', "\u{10ee}"),
    ('\u{10ef}', "\u{10ef}"), ('\u{10f0}', "\u{10f0}"), ('\u{10f1}', "\u{10f1}"), ('\u{10f2}', "\u{10f2}"),
    ('\u{10f3}', "\u{10f3}"), ('\u{10f4}', "\u{10f4}"), ('\u{10f5}', "\u{10f5}"), ('\u{10f6}', "\u{10f6}"),
    ('\u{10f7}', "\u{10f7}"), ('\u{10f8}', "\u{10f8}"), ('\u{10f9}', "\u{10f9}"), ('\u{10fa}', "\u{10fa}"),
    ('\u{10fd}', "\u{10fd}"), ('\u{10fe}', "\u{10fe}"), ('\u{10ff}', "\u{10ff}"), ('\u{1f80}', "\u{1f88}"),
    ('\u{1f81}', "\u{1f89}"), ('\u{1f82}', "\u{1f8a}"), ('\u{1f83}', "\u{1f8b}"), ('\u{1f84}', "\u{1f8c}"),
    ('\u{1f85}', "\u{1f8d}"), ('\u{1f86}', "\u{1f8e}"), ('\u{1f87}', "\u{1f8f}"), ('\u{1f88}', "\u{1f88}"),
    ('\u{1f89}', "\u{1f89}"), ('\u{1f8a}', "\u{1f8a}"), ('\u{1f8b}', "\u{1f8b}"), ('\u{1f8c}', "\u{1f8c}"),
    ('\u{1f8d}', "\u{1f8d}"), ('\u{1f8e}', "\u{1f8e}"), ('\u{1f8f}', "\u{1f8f}"), ('\u{1f90}', "\u{1f98}"),
    ('\u{1f91}', "\u{1f99}"), ('\u{1f92}', "\u{1f9a}"), ('\u{1f93}', "\u{1f9b}"), ('\u{1f94}', "\u{1f9c}"),
    ('\u{1f95}', "\u{1f9d}"), ('\u{1f96}', "\u{1f9e}"), ('\u{1f97}', "\u{1f9f}"), ('\u{1f98}', "\u{1f98}"),
    ('\u{1f99}', "\u{1f99}"), ('\u{1f9a}', "\u{1f9a}"), ('\u{1f9b}', "\u{1f9b}"), ('\u{1f9c}', "\u{1f9c}"),
    ('\u{1f9d}', "\u{1f9d}"), ('\u{1f9e}', "\u{1f9e}"), ('\u{1f9f}', "\u{1f9f}"), ('\u{1fa0}', "\u{1fa8}"),
    ('\u{1fa1}', "\u{1fa9}"), ('\u{1fa2}', "\u{1faa}"), ('\u{1fa3}', "\u{1fab}"), ('\u{1fa4}', "\u{1fac}"),
    ('\u{1fa5}', "\u{1fad}"), ('\u{1fa6}', "\u{1fae}"), ('\u{1fa7}', "\u{1faf}"), ('\u{1fa8}', "\u{1fa8}"),
    ('\u{1fa9}', "\u{1fa9}"), ('\u{1faa}', "\u{1faa}"), ('\u{1fab}', "\u{1fab}"), ('\u{1fac}', "\u{1fac}"),
    ('\u{1fad}', "\u{1fad}"), ('\u{1fae}', "\u{1fae}"), ('\u{1faf}', "\u{1faf}"), ('\u{1fb2}', "\u{1fba}\u{345}"),
    ('\u{1fb3}', "\u{1fbc}"), ('\u{1fb4}', "\u{386}\u{345}"), ('\u{1fb7}', "\u{391}\u{342}\u{345}"),
    ('\u{1fbc}', "\u{1fbc}"), ('\u{1fc2}', "\u{1fca}\u{345}"), ('\u{1fc3}', "\u{1fcc}"), ('\u{1fc4}', "\u{389}\u{345}"),
    ('\u{1fc7}', "\u{397}\u{342}\u{345}"), ('\u{1fcc}', "\u{1fcc}"), ('\u{1ff2}', "\u{1ffa}\u{345}"),
    ('\u{1ff3}', "\u{1ffc}"), ('\u{1ff4}', "\u{38f}\u{345}"), ('\u{1ff7}', "\u{3a9}\u{342}\u{345}"),
    ('\u{1ffc}', "\u{1ffc}"),
];
/// Case folding, where it is not the lower case.
#[rustfmt::skip]
const FOLD: [(char, &str); 297] = [
    ('\u{b5}', "\u{3bc}"), ('\u{df}', "\u{73}\u{73}"), ('\u{149}', "\u{2bc}\u{6e}"), ('\u{17f}', "\u{73}"),
    ('\u{1f0}', "\u{6a}\u{30c}"), ('\u{345}', "\u{3b9}"), ('\u{390}', "\u{3b9}\u{308}\u{301}"),
    ('\u{3b0}', "\u{3c5}\u{308}\u{301}"), ('\u{3c2}', "\u{3c3}"), ('\u{3d0}', "\u{3b2}"), ('\u{3d1}', "\u{3b8}"),
    ('\u{3d5}', "\u{3c6}"), ('\u{3d6}', "\u{3c0}"), ('\u{3f0}', "\u{3ba}"), ('\u{3f1}', "\u{3c1}"),
    ('\u{3f5}', "\u{3b5}"), ('\u{587}', "\u{565}\u{582}"), ('\u{13a0}', "\u{13a0}"), ('\u{13a1}', "\u{13a1}"),
    ('\u{13a2}', "\u{13a2}"), ('\u{13a3}', "\u{13a3}"), ('\u{13a4}', "\u{13a4}"), ('\u{13a5}', "\u{13a5}"),
    ('\u{13a6}', "\u{13a6}"), ('\u{13a7}', "\u{13a7}"), ('\u{13a8}', "\u{13a8}"), ('\u{13a9}', "\u{13a9}"),
    ('\u{13aa}', "\u{13aa}"), ('\u{13ab}', "\u{13ab}"), ('\u{13ac}', "\u{13ac}"), ('\u{13ad}', "\u{13ad}"),
    ('\u{13ae}', "\u{13ae}"), ('\u{13af}', "\u{13af}"), ('\u{13b0}', "\u{13b0}"), ('\u{13b1}', "\u{13b1}"),
    ('\u{13b2}', "\u{13b2}"), ('\u{13b3}', "\u{13b3}"), ('\u{13b4}', "\u{13b4}"), ('\u{13b5}', "\u{13b5}"),
    ('\u{13b6}', "\u{13b6}"), ('\u{13b7}', "\u{13b7}"), ('\u{13b8}', "\u{13b8}"), ('\u{13b9}', "\u{13b9}"),
    ('\u{13ba}', "\u{13ba}"), ('\u{13bb}', "\u{13bb}"), ('\u{13bc}', "\u{13bc}"), ('\u{13bd}', "\u{13bd}"),
    ('\u{13be}', "\u{13be}"), ('\u{13bf}', "\u{13bf}"), ('\u{13c0}', "\u{13c0}"), ('\u{13c1}', "\u{13c1}"),
    ('\u{13c2}', "\u{13c2}"), ('\u{13c3}', "\u{13c3}"), ('\u{13c4}', "\u{13c4}"), ('\u{13c5}', "\u{13c5}"),
    ('\u{13c6}', "\u{13c6}"), ('\u{13c7}', "\u{13c7}"), ('\u{13c8}', "\u{13c8}"), ('\u{13c9}', "\u{13c9}"),
    ('\u{13ca}', "\u{13ca}"), ('\u{13cb}', "\u{13cb}"), ('\u{13cc}', "\u{13cc}"), ('\u{13cd}', "\u{13cd}"),
    ('\u{13ce}', "\u{13ce}"), ('\u{13cf}', "\u{13cf}"), ('\u{13d0}', "\u{13d0}"), ('\u{13d1}', "\u{13d1}"),
    ('\u{13d2}', "\u{13d2}"), ('\u{13d3}', "\u{13d3}"), ('\u{13d4}', "\u{13d4}"), ('\u{13d5}', "\u{13d5}"),
    ('\u{13d6}', "\u{13d6}"), ('\u{13d7}', "\u{13d7}"), ('\u{13d8}', "\u{13d8}"), ('\u{13d9}', "\u{13d9}"),
    ('\u{13da}', "\u{13da}"), ('\u{13db}', "\u{13db}"), ('\u{13dc}', "\u{13dc}"), ('\u{13dd}', "\u{13dd}"),
    ('\u{13de}', "\u{13de}"), ('\u{13df}', "\u{13df}"), ('\u{13e0}', "\u{13e0}"), ('\u{13e1}', "\u{13e1}"),
    ('\u{13e2}', "\u{13e2}"), ('\u{13e3}', "\u{13e3}"), ('\u{13e4}', "\u{13e4}"), ('\u{13e5}', "\u{13e5}"),
    ('\u{13e6}', "\u{13e6}"), ('\u{13e7}', "\u{13e7}"), ('\u{13e8}', "\u{13e8}"), ('\u{13e9}', "\u{13e9}"),
    ('\u{13ea}', "\u{13ea}"), ('\u{13eb}', "\u{13eb}"), ('\u{13ec}', "\u{13ec}"), ('\u{13ed}', "\u{13ed}"),
    ('\u{13ee}', "\u{13ee}"), ('\u{13ef}', "\u{13ef}"), ('\u{13f0}', "\u{13f0}"), ('\u{13f1}', "\u{13f1}"),
    ('\u{13f2}', "\u{13f2}"), ('\u{13f3}', "\u{13f3}"), ('\u{13f4}', "\u{13f4}"), ('\u{13f5}', "\u{13f5}"),
    ('\u{13f8}', "\u{13f0}"), ('\u{13f9}', "\u{13f1}"), ('\u{13fa}', "\u{13f2}"), ('\u{13fb}', "\u{13f3}"),
    ('\u{13fc}', "\u{13f4}"), ('\u{13fd}', "\u{13f5}"), ('\u{1c80}', "\u{432}"), ('\u{1c81}', "\u{434}"),
    ('\u{1c82}', "\u{43e}"), ('\u{1c83}', "\u{441}"), ('\u{1c84}', "\u{442}"), ('\u{1c85}', "\u{442}"),
    ('\u{1c86}', "\u{44a}"), ('\u{1c87}', "\u{463}"), ('\u{1c88}', "\u{a64b}"), ('\u{1e96}', "\u{68}\u{331}"),
    ('\u{1e97}', "\u{74}\u{308}"), ('\u{1e98}', "\u{77}\u{30a}"), ('\u{1e99}', "\u{79}\u{30a}"),
    ('\u{1e9a}', "\u{61}\u{2be}"), ('\u{1e9b}', "\u{1e61}"), ('\u{1e9e}', "\u{73}\u{73}"),
    ('\u{1f50}', "\u{3c5}\u{313}"), ('\u{1f52}', "\u{3c5}\u{313}\u{300}"), ('\u{1f54}', "\u{3c5}\u{313}\u{301}"),
    ('\u{1f56}', "\u{3c5}\u{313}\u{342}"), ('\u{1f80}', "\u{1f00}\u{3b9}"), ('\u{1f81}', "\u{1f01}\u{3b9}"),
    ('\u{1f82}', "\u{1f02}\u{3b9}"), ('\u{1f83}', "\u{1f03}\u{3b9}"), ('\u{1f84}', "\u{1f04}\u{3b9}"),
    ('\u{1f85}', "\u{1f05}\u{3b9}"), ('\u{1f86}', "\u{1f06}\u{3b9}"), ('\u{1f87}', "\u{1f07}\u{3b9}"),
    ('\u{1f88}', "\u{1f00}\u{3b9}"), ('\u{1f89}', "\u{1f01}\u{3b9}"), ('\u{1f8a}', "\u{1f02}\u{3b9}"),
    ('\u{1f8b}', "\u{1f03}\u{3b9}"), ('\u{1f8c}', "\u{1f04}\u{3b9}"), ('\u{1f8d}', "\u{1f05}\u{3b9}"),
    ('\u{1f8e}', "\u{1f06}\u{3b9}"), ('\u{1f8f}', "\u{1f07}\u{3b9}"), ('\u{1f90}', "\u{1f20}\u{3b9}"),
    ('\u{1f91}', "\u{1f21}\u{3b9}"), ('\u{1f92}', "\u{1f22}\u{3b9}"), ('\u{1f93}', "\u{1f23}\u{3b9}"),
    ('\u{1f94}', "\u{1f24}\u{3b9}"), ('\u{1f95}', "\u{1f25}\u{3b9}"), ('\u{1f96}', "\u{1f26}\u{3b9}"),
    ('\u{1f97}', "\u{1f27}\u{3b9}"), ('\u{1f98}', "\u{1f20}\u{3b9}"), ('\u{1f99}', "\u{1f21}\u{3b9}"),
    ('\u{1f9a}', "\u{1f22}\u{3b9}"), ('\u{1f9b}', "\u{1f23}\u{3b9}"), ('\u{1f9c}', "\u{1f24}\u{3b9}"),
    ('\u{1f9d}', "\u{1f25}\u{3b9}"), ('\u{1f9e}', "\u{1f26}\u{3b9}"), ('\u{1f9f}', "\u{1f27}\u{3b9}"),
    ('\u{1fa0}', "\u{1f60}\u{3b9}"), ('\u{1fa1}', "\u{1f61}\u{3b9}"), ('\u{1fa2}', "\u{1f62}\u{3b9}"),
    ('\u{1fa3}', "\u{1f63}\u{3b9}"), ('\u{1fa4}', "\u{1f64}\u{3b9}"), ('\u{1fa5}', "\u{1f65}\u{3b9}"),
    ('\u{1fa6}', "\u{1f66}\u{3b9}"), ('\u{1fa7}', "\u{1f67}\u{3b9}"), ('\u{1fa8}', "\u{1f60}\u{3b9}"),
    ('\u{1fa9}', "\u{1f61}\u{3b9}"), ('\u{1faa}', "\u{1f62}\u{3b9}"), ('\u{1fab}', "\u{1f63}\u{3b9}"),
    ('\u{1fac}', "\u{1f64}\u{3b9}"), ('\u{1fad}', "\u{1f65}\u{3b9}"), ('\u{1fae}', "\u{1f66}\u{3b9}"),
    ('\u{1faf}', "\u{1f67}\u{3b9}"), ('\u{1fb2}', "\u{1f70}\u{3b9}"), ('\u{1fb3}', "\u{3b1}\u{3b9}"),
    ('\u{1fb4}', "\u{3ac}\u{3b9}"), ('\u{1fb6}', "\u{3b1}\u{342}"), ('\u{1fb7}', "\u{3b1}\u{342}\u{3b9}"),
    ('\u{1fbc}', "\u{3b1}\u{3b9}"), ('\u{1fbe}', "\u{3b9}"), ('\u{1fc2}', "\u{1f74}\u{3b9}"),
    ('\u{1fc3}', "\u{3b7}\u{3b9}"), ('\u{1fc4}', "\u{3ae}\u{3b9}"), ('\u{1fc6}', "\u{3b7}\u{342}"),
    ('\u{1fc7}', "\u{3b7}\u{342}\u{3b9}"), ('\u{1fcc}', "\u{3b7}\u{3b9}"), ('\u{1fd2}', "\u{3b9}\u{308}\u{300}"),
    ('\u{1fd3}', "\u{3b9}\u{308}\u{301}"), ('\u{1fd6}', "\u{3b9}\u{342}"), ('\u{1fd7}', "\u{3b9}\u{308}\u{342}"),
    ('\u{1fe2}', "\u{3c5}\u{308}\u{300}"), ('\u{1fe3}', "\u{3c5}\u{308}\u{301}"), ('\u{1fe4}', "\u{3c1}\u{313}"),
    ('\u{1fe6}', "\u{3c5}\u{342}"), ('\u{1fe7}', "\u{3c5}\u{308}\u{342}"), ('\u{1ff2}', "\u{1f7c}\u{3b9}"),
    ('\u{1ff3}', "\u{3c9}\u{3b9}"), ('\u{1ff4}', "\u{3ce}\u{3b9}"), ('\u{1ff6}', "\u{3c9}\u{342}"),
    ('\u{1ff7}', "\u{3c9}\u{342}\u{3b9}"), ('\u{1ffc}', "\u{3c9}\u{3b9}"), ('\u{ab70}', "\u{13a0}"),
    ('\u{ab71}', "\u{13a1}"), ('\u{ab72}', "\u{13a2}"), ('\u{ab73}', "\u{13a3}"), ('\u{ab74}', "\u{13a4}"),
    ('\u{ab75}', "\u{13a5}"), ('\u{ab76}', "\u{13a6}"), ('\u{ab77}', "\u{13a7}"), ('\u{ab78}', "\u{13a8}"),
    ('\u{ab79}', "\u{13a9}"), ('\u{ab7a}', "\u{13aa}"), ('\u{ab7b}', "\u{13ab}"), ('\u{ab7c}', "\u{13ac}"),
    ('\u{ab7d}', "\u{13ad}"), ('\u{ab7e}', "\u{13ae}"), ('\u{ab7f}', "\u{13af}"), ('\u{ab80}', "\u{13b0}"),
    ('\u{ab81}', "\u{13b1}"), ('\u{ab82}', "\u{13b2}"), ('\u{ab83}', "\u{13b3}"), ('\u{ab84}', "\u{13b4}"),
    ('\u{ab85}', "\u{13b5}"), ('\u{ab86}', "\u{13b6}"), ('\u{ab87}', "\u{13b7}"), ('\u{ab88}', "\u{13b8}"),
    ('\u{ab89}', "\u{13b9}"), ('\u{ab8a}', "\u{13ba}"), ('\u{ab8b}', "\u{13bb}"), ('\u{ab8c}', "\u{13bc}"),
    ('\u{ab8d}', "\u{13bd}"), ('\u{ab8e}', "\u{13be}"), ('\u{ab8f}', "\u{13bf}"), ('\u{ab90}', "\u{13c0}"),
    ('\u{ab91}', "\u{13c1}"), ('\u{ab92}', "\u{13c2}"), ('\u{ab93}', "\u{13c3}"), ('\u{ab94}', "\u{13c4}"),
    ('\u{ab95}', "\u{13c5}"), ('\u{ab96}', "\u{13c6}"), ('\u{ab97}', "\u{13c7}"), ('\u{ab98}', "\u{13c8}"),
    ('\u{ab99}', "\u{13c9}"), ('\u{ab9a}', "\u{13ca}"), ('\u{ab9b}', "\u{13cb}"), ('\u{ab9c}', "\u{13cc}"),
    ('\u{ab9d}', "\u{13cd}"), ('\u{ab9e}', "\u{13ce}"), ('\u{ab9f}', "\u{13cf}"), ('\u{aba0}', "\u{13d0}"),
    ('\u{aba1}', "\u{13d1}"), ('\u{aba2}', "\u{13d2}"), ('\u{aba3}', "\u{13d3}"), ('\u{aba4}', "\u{13d4}"),
    ('\u{aba5}', "\u{13d5}"), ('\u{aba6}', "\u{13d6}"), ('\u{aba7}', "\u{13d7}"), ('\u{aba8}', "\u{13d8}"),
    ('\u{aba9}', "\u{13d9}"), ('\u{abaa}', "\u{13da}"), ('\u{abab}', "\u{13db}"), ('\u{abac}', "\u{13dc}"),
    ('\u{abad}', "\u{13dd}"), ('\u{abae}', "\u{13de}"), ('\u{abaf}', "\u{13df}"), ('\u{abb0}', "\u{13e0}"),
    ('\u{abb1}', "\u{13e1}"), ('\u{abb2}', "\u{13e2}"), ('\u{abb3}', "\u{13e3}"), ('\u{abb4}', "\u{13e4}"),
    ('\u{abb5}', "\u{13e5}"), ('\u{abb6}', "\u{13e6}"), ('\u{abb7}', "\u{13e7}"), ('\u{abb8}', "\u{13e8}"),
    ('\u{abb9}', "\u{13e9}"), ('\u{abba}', "\u{13ea}"), ('\u{abbb}', "\u{13eb}"), ('\u{abbc}', "\u{13ec}"),
    ('\u{abbd}', "\u{13ed}"), ('\u{abbe}', "\u{13ee}"), ('\u{abbf}', "\u{13ef}"), ('\u{fb00}', "\u{66}\u{66}"),
    ('\u{fb01}', "\u{66}\u{69}"), ('\u{fb02}', "\u{66}\u{6c}"), ('\u{fb03}', "\u{66}\u{66}\u{69}"),
    ('\u{fb04}', "\u{66}\u{66}\u{6c}"), ('\u{fb05}', "\u{73}\u{74}"), ('\u{fb06}', "\u{73}\u{74}"),
    ('\u{fb13}', "\u{574}\u{576}"), ('\u{fb14}', "\u{574}\u{565}"), ('\u{fb15}', "\u{574}\u{56b}"),
    ('\u{fb16}', "\u{57e}\u{576}"), ('\u{fb17}', "\u{574}\u{56d}"),
];

fn within(table: &[(char, char)], c: char) -> bool {
    table
        .binary_search_by(|(first, last)| {
            if *last < c {
                std::cmp::Ordering::Less
            } else if *first > c {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
}

fn of_class(class: &LazyLock<Option<Regex>>, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])).unwrap_or(false))
}

static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{L}").ok());
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{N}").ok());
static HIDDEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}]").ok());
static START: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{XID_Start}").ok());
static CONTINUE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{XID_Continue}").ok());

/// `str.isspace` of a character: what `strip` and `split` take away.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{1c}'..=' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Where `splitlines` ends a line (`\r\n` aside).
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.isalpha` of a character.
pub(super) fn is_alpha(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { of_class(&LETTER, c) }
}

/// The value of a decimal digit of any script.
pub(super) fn decimal_value(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.to_digit(10).map(|d| d as u8);
    }
    let i = ZEROS.partition_point(|zero| *zero <= c);
    let offset = c as u32 - *ZEROS.get(i.checked_sub(1)?)? as u32;
    u8::try_from(offset).ok().filter(|d| *d < 10)
}

/// `str.isdigit` of a character.
pub(super) fn is_digit(c: char) -> bool {
    decimal_value(c).is_some() || within(&DIGITS, c)
}

/// `str.isnumeric` of a character.
pub(super) fn is_numeric(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { of_class(&NUMBER, c) || within(&NUMERALS, c) }
}

/// `str.isalnum` of a character.
pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || decimal_value(c).is_some() || is_digit(c) || is_numeric(c)
}

/// `str.isprintable` of a character; `repr` escapes the others.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() { (' '..='~').contains(&c) } else { !of_class(&HIDDEN, c) }
}

/// Whether a letter is of title case.
pub(super) fn is_title(c: char) -> bool {
    within(&TITLE_CASE, c)
}

/// Whether a character has a case at all.
pub(super) fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || is_title(c)
}

/// `str.isidentifier`.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let starts = |c: char| c == '_' || c.is_ascii_alphabetic() || (!c.is_ascii() && of_class(&START, c));
    let goes_on = |c: char| c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && of_class(&CONTINUE, c));
    chars.next().is_some_and(starts) && chars.all(goes_on)
}

/// A character in title case.
pub(super) fn title(c: char) -> String {
    if let Ok(i) = TITLE.binary_search_by_key(&c, |(c, _)| *c) {
        return TITLE[i].1.into();
    }
    let mut upper = c.to_uppercase();
    let mut out: String = upper.next().into_iter().collect();
    out.extend(upper.flat_map(char::to_lowercase));
    out
}

/// `str.casefold`.
pub(super) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match FOLD.binary_search_by_key(&c, |(c, _)| *c) {
            Ok(i) => out.push_str(FOLD[i].1),
            Err(_) => out.extend(c.to_lowercase()),
        }
    }
    out
}
