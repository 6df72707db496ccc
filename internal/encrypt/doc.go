// Package encrypt turns fields of a JSON payload into Fernet tokens, and back.
//
// # Which fields
//
// A name ("password") is every member of that name, at any depth. A path ("customer.card.number") is that member from the outermost object
// on; * stands for any one name. Arrays are looked through: their elements count as if each stood in the array's place. Names are
// compared exactly.
//
// # What becomes of a field
//
// A text is encrypted as its UTF-8 bytes; a number, true, false, an object or an array as its JSON text; null stays null. The token stands in the
// field's place as a JSON string. All other bytes of the payload stay as they are: white space, the form of numbers, the order of
// members, members that are given twice.
//
// A token is what Python's cryptography.fernet makes and reads: https://github.com/fernet/spec/blob/master/Spec.md. It has a random part, so
// that encrypting the same payload again gives other bytes.
//
// # Failures
//
// A payload that is no JSON is an error, and nothing of it is returned: it may hold what is to be encrypted. No error shows a key, a value or
// a token.
package encrypt
