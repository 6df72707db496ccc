// Package encrypt turns fields of a JSON payload into Fernet tokens, and back.
//
// # Which fields
//
// A name ("password") is every member of that name, at any depth. A path ("customer.card.number", also "customer/card/number") is that member
// from the outermost object on; with a slash before it, a name is a path of one part. Arrays are looked through: their elements
// count as if each stood in the array's place, and "items[].secret" is "items.secret". A * stands for any one name, or for one element, so that
// "items.*.secret" is found in an array as well. Names are compared exactly: Password is not password.
//
// # What becomes of a field
//
// A text is encrypted as its UTF-8 bytes; a number, true, false, an object or an array as its JSON text; null stays null. The token stands in the
// field's place as a JSON string. All other bytes of the payload stay as they are: white space, the form of numbers, the order of
// members, members that are given twice. JSON inside a text is text, and not looked into.
//
// A token is what Python's cryptography.fernet makes and reads: https://github.com/fernet/spec/blob/master/Spec.md. It has a random part, so
// that encrypting the same payload again gives other bytes.
//
// # Failures
//
// A payload that is no JSON, or nested more than 10,000 deep, is an error, and nothing of it is returned: it may hold what is to be encrypted. No
// error shows a key, a value or a token.
package encrypt
