//! A small component of our own, compiled ahead of the one that comes: after it, what a compiler needs for any of them is in
//! memory, and its threads are up.
//!
//! It is never run. It has a little of what policies are made of: loops over memory, choices, calls, wide numbers.

/// So often are its functions there, so that each thread of the compiler has some.
const TIMES: usize = 8;

/// Wraps a section's or a function's content with its length.
fn sized(content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut bytes = Vec::with_capacity(content.len() + 4);
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &sized(content)].concat()
}

/// Goes over a piece of memory, reads bytes and writes a sum of them. All functions take two numbers, bring one, and have two
/// variables of 32 bits and two of 64.
#[rustfmt::skip]
const SUM: &[u8] = &[
    0x03, 0x40,                                           // loop
    0x20, 0, 0x2d, 0, 0, 0x20, 2, 0x73,                   //   load8_u [0], xor [2]
    0x41, 0x93, 0x83, 0x80, 0x08, 0x6c, 0x21, 2,          //   mul, set [2]
    0x20, 0, 0x20, 2, 0x36, 2, 16,                        //   store
    0x20, 0, 0x41, 1, 0x6a, 0x22, 0, 0x20, 1, 0x49,       //   add 1 to [0], below [1]?
    0x0d, 0,                                              //   again
    0x0b,
    0x20, 2,
];

/// Chooses between a call, a call by number, and one of two values.
#[rustfmt::skip]
const CHOICE: &[u8] = &[
    0x02, 0x40, 0x02, 0x40, 0x02, 0x40,                   // three blocks
    0x20, 0, 0x0e, 2, 0, 1, 2,                            // br_table
    0x0b,
    0x20, 0, 0x20, 1, 0x10, 0, 0x0f,                      // call, return
    0x0b,
    0x20, 1, 0x20, 0, 0x20, 0, 0x41, 3, 0x71,             // and 3
    0x11, 0, 0, 0x0f,                                     // call_indirect, return
    0x0b,
    0x20, 0, 0x45, 0x04, 0x7f,                            // zero? if
    0x00,                                                 //   unreachable
    0x05, 0x20, 0, 0x20, 1, 0x20, 0, 0x67, 0x1b,          // else clz, select
    0x0b,
];

/// Reckons with wide numbers, moves memory, and asks for more.
#[rustfmt::skip]
const WIDE: &[u8] = &[
    0x20, 0, 0x29, 3, 0, 0x20, 1, 0xad, 0x7e,             // i64.load, extend, mul
    0x42, 13, 0x89, 0x21, 4,                              // rotl, set [4]
    0x20, 0, 0x20, 4, 0x42, 7, 0x88, 0x20, 4, 0x7c,       // shr_u, add
    0x37, 3, 8,                                           // i64.store
    0x20, 0, 0x20, 1, 0x41, 24, 0xfc, 0x0a, 0, 0,         // memory.copy
    0x23, 0, 0x41, 16, 0x6b, 0x24, 0,                     // a global as a stack's pointer
    0x41, 1, 0x40, 0, 0x41, 0x7f, 0x46,                   // memory.grow, refused?
    0x04, 0x40, 0x41, 0, 0x0f, 0x0b,                      // then return 0
    0x20, 4, 0xa7, 0x20, 0, 0x20, 1, 0x10, 1, 0x6a,       // wrap, call, add
];

/// The component.
pub(super) fn component() -> Vec<u8> {
    let bodies = [SUM, CHOICE, WIDE].map(|code| sized(&[&[2, 2, 0x7f, 2, 0x7e], code, &[0x0b]].concat())).concat();
    let functions = 3 * TIMES as u8;
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        section(3, &[&[functions][..], &vec![0; functions.into()]].concat()),
        section(4, &[1, 0x70, 0, 4]),
        section(5, &[1, 0, 1]),
        section(6, &[1, 0x7f, 1, 0x41, 0, 0x0b]),
        section(9, &[1, 0, 0x41, 0, 0x0b, 4, 0, 1, 2, 3]),
        section(10, &[&[functions][..], &bodies.repeat(TIMES)].concat()),
    ];
    [b"\0asm\x0d\0\x01\0", &section(1, &module.concat())[..]].concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_valid_and_compiles() {
        let code = super::super::child::machine_code(&super::component());
        assert!(code.as_ref().is_ok_and(|code| code.len() > 4096), "{:?}", code.err());
    }
}
