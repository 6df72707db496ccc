package config

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
)

// masked stands for every secret in every output.
const masked = "******"

// hidden is text that fmt cannot reach: where it prints a value without its methods (in an unexported field, or
// after a verb that does not fit) it shows a pointer. nil is the empty text.
type hidden struct{ text *string }

func hide(s string) hidden {
	if s == "" {
		return hidden{}
	}
	return hidden{&s}
}

func (h hidden) reveal() string {
	if h.text == nil {
		return ""
	}
	return *h.text
}

// Secret is a password or token. It prints as asterisks; an empty one prints as nothing.
type Secret struct{ hidden }

// NewSecret hides s.
func NewSecret(s string) Secret { return Secret{hide(s)} }

// Reveal returns the secret itself. Never log or wrap what it returns.
func (s Secret) Reveal() string { return s.reveal() }

// Empty tells whether there is no secret.
func (s Secret) Empty() bool { return s.text == nil }

// String returns the mask.
func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return masked
}

// Format writes the mask, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { writeMasked(f, s.String()) }

// GoString returns the mask.
func (s Secret) GoString() string { return s.String() }

// MarshalText returns the mask; JSON, YAML and zerolog use it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is an address that may hold secrets: a password, or parameters such as sslpassword and token. It prints without them.
type URL struct{ hidden }

// NewURL hides the secrets of s.
func NewURL(s string) URL { return URL{hide(s)} }

// Reveal returns the address with its secrets. Never log or wrap what it returns.
func (u URL) Reveal() string { return u.reveal() }

// Empty tells whether there is no address.
func (u URL) Empty() bool { return u.text == nil }

// String returns the address with its secrets masked.
func (u URL) String() string { return maskURL(u.reveal()) }

// Format writes the masked address, whatever the verb.
func (u URL) Format(f fmt.State, _ rune) { writeMasked(f, u.String()) }

// GoString returns the masked address.
func (u URL) GoString() string { return u.String() }

// MarshalText returns the masked address; JSON, YAML and zerolog use it too.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

func writeMasked(f fmt.State, s string) {
	// fmt gives a Formatter no way to return an error; the writer keeps it.
	if _, err := io.WriteString(f, s); err != nil {
		return
	}
}

// secretParameter matches the names of URL parameters whose values are secrets: password, sslpassword, token, api_key, ...
var secretParameter = regexp.MustCompile(`(?i)(pass|token|secret|key|credential|auth)`)

// keyFileParameter names the parameters that match secretParameter but hold the path of a file.
var keyFileParameter = regexp.MustCompile(`(?i)^(sslkey|passfile|tlskey|key_?file)$`)

// maskURL returns raw without its secrets. What it cannot take apart for certain (a password with an unescaped
// # or ?, say, that reads as something else) it masks from the scheme on.
func maskURL(raw string) string {
	if raw == "" {
		return ""
	}
	scheme, _, found := strings.Cut(raw, "://")
	if !found || strings.ContainsAny(scheme, "@:/? ") {
		return masked
	}
	u, err := url.Parse(raw)
	if err != nil || u.Fragment != "" || strings.Contains(u.RawQuery, "@") || strings.Contains(u.Path, "@") {
		return scheme + "://" + masked
	}
	return scheme + "://" + maskedUser(u.User) + u.Host + u.EscapedPath() + maskedQuery(u.RawQuery)
}

func maskedUser(u *url.Userinfo) string {
	if u == nil {
		return ""
	}
	name := url.User(u.Username()).String()
	if _, has := u.Password(); has {
		return name + ":" + masked + "@"
	}
	return name + "@"
}

func maskedQuery(raw string) string {
	if raw == "" {
		return ""
	}
	parts := strings.Split(raw, "&")
	for i, p := range parts {
		name, _, _ := strings.Cut(p, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil || secretParameter.MatchString(plain) && !keyFileParameter.MatchString(plain) {
			parts[i] = name + "=" + masked
		}
	}
	return "?" + strings.Join(parts, "&")
}
