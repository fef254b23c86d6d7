package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// Attack is what somebody sends as the header authorization who has no token that is valid.
type Attack struct {
	Name   string
	Values []string
}

// Attacks returns so many attacks, or all that have a name of their own where n is less: tokens that are forged, that
// were signed with faults, and valid ones that were changed somewhere. tokens of the issuer are valid with all scopes,
// so whoever takes one of these has done what it should not. It publishes keys of more algorithms, so that each of
// them is attacked: make the attacks before the keys are fetched.
func (i *Issuer) Attacks(n int) []Attack {
	a := &attacks{Issuer: i, keys: []Key{i.Key()}, random: mathrand.New(mathrand.NewPCG(1, 2))}
	for _, algorithm := range []string{"RS256", "PS256", "ES384", "EdDSA"} {
		key := NewKey(i.t, algorithm)
		i.Publish(key)
		a.keys = append(a.keys, key)
	}
	a.algorithms()
	a.foreignKeys()
	a.signatures()
	a.headers()
	a.claims()
	a.shapes()
	var tokens []string
	for _, key := range a.keys {
		tokens = append(tokens, a.good(key), a.good(key))
	}
	for len(a.list) < n {
		a.change(tokens[a.random.IntN(len(tokens))])
	}
	return a.list
}

// Scopes are all scopes in a claim.
const Scopes = "orders:read orders:write accounts:read accounts:write money:in money:out payments:read " +
	"payments:write inventory:write operator"

type attacks struct {
	*Issuer
	keys   []Key
	list   []Attack
	random *mathrand.Rand
}

func (a *attacks) add(name, token string) {
	a.list = append(a.list, Attack{name, []string{"Bearer " + token}})
}

// good is a valid token signed by a key.
func (a *attacks) good(key Key) string { return a.Mint(Claims{"scope": Scopes}, nil, key) }

// payload is that of a valid token.
func (a *attacks) payload() string { return strings.Split(a.good(a.keys[0]), ".")[1] }

func encode(value any) string {
	text, ok := value.(string)
	if !ok {
		encoded, err := json.Marshal(value)
		if err != nil {
			panic(err) // only what can be encoded is made here
		}
		text = string(encoded)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign signs any header and payload as texts, which no library would.
func (a *attacks) sign(key Key, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	signature, err := jwt.GetSigningMethod(key.Algorithm).Sign(input, key.Private)
	if err != nil {
		panic(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// algorithms: none in all spellings, and HMAC with what everybody knows.
func (a *attacks) algorithms() {
	for _, key := range a.keys {
		signature := strings.Split(a.good(key), ".")[2]
		for _, alg := range []any{"none", "None", "NONE", "nOnE", "none ", " none", "none\x00", "", nil, 0, true,
			[]string{},
			[]string{"none"}, []string{key.Algorithm}, map[string]any{}, "HS256", "hs256", strings.ToLower(key.Algorithm),
			key.Algorithm + " ", "ES256K", "RS1", "A128KW", "dir", "Ed448", "null"} {
			if alg == key.Algorithm {
				continue
			}
			header := encode(Claims{"typ": "JWT", "alg": alg, "kid": key.ID})
			for _, last := range []string{"", signature, "AA"} {
				a.add(fmt.Sprintf("%s: alg %v", key.Algorithm, alg), header+"."+a.payload()+"."+last)
			}
		}
		a.add("without alg", encode(Claims{"typ": "JWT", "kid": key.ID})+"."+a.payload()+"."+signature)
		for _, secret := range a.secrets(key) {
			for _, kid := range []any{key.ID, nil, "", "hmac"} {
				input := encode(merge(Claims{"typ": "JWT", "alg": "HS256", "kid": kid}, nil)) + "." + a.payload()
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(input))
				a.add("HS256 with "+key.Algorithm+"'s public key", input+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
			}
		}
		for _, other := range a.keys {
			if other.Algorithm != key.Algorithm {
				header := encode(Claims{"typ": "JWT", "alg": other.Algorithm, "kid": key.ID})
				a.add(key.Algorithm+" as "+other.Algorithm, header+"."+a.payload()+"."+signature)
				input := encode(Claims{"typ": "JWT", "alg": other.Algorithm, "kid": key.ID}) + "." + a.payload()
				s, err := jwt.GetSigningMethod(other.Algorithm).Sign(input, NewKey(a.t, other.Algorithm).foreign().Private)
				if err == nil {
					a.add(other.Algorithm+" under the kid of "+key.Algorithm, input+"."+base64.RawURLEncoding.EncodeToString(s))
				}
			}
		}
	}
}

// secrets are the forms in which a public key could be taken for a secret of HMAC.
func (a *attacks) secrets(key Key) [][]byte {
	der, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	if err != nil {
		panic(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk := a.jwk(key)
	secrets := [][]byte{nil, []byte("secret"), []byte(key.ID), der, text, bytes.TrimSpace(text),
		bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), jwk, []byte(base64.StdEncoding.EncodeToString(der)),
		[]byte(base64.RawURLEncoding.EncodeToString(der))}
	if public, ok := key.Private.Public().(*rsa.PublicKey); ok {
		short := x509.MarshalPKCS1PublicKey(public)
		secrets = append(secrets, short, public.N.Bytes(),
			pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: short}))
	}
	return secrets
}

func (a *attacks) jwk(key Key) []byte {
	public, err := jwkset.NewJWKFromKey(key.Private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
		KID: key.ID, ALG: jwkset.ALG(key.Algorithm)}})
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(public.Marshal())
	if err != nil {
		panic(err)
	}
	return text
}

// foreign returns a key that is surely not the process's one RSA key.
func (k Key) foreign() Key {
	if _, ok := k.Private.(*rsa.PrivateKey); ok {
		private, err := foreignRSA()
		if err != nil {
			panic(err)
		}
		k.Private = private
	}
	return k
}

// foreignKeys: tokens that a stranger has signed, who says where his key is, and kids that lead elsewhere.
func (a *attacks) foreignKeys() {
	kids := []any{nil, "", "../../../../dev/null", "/dev/null", "file:///dev/null", "' OR 1=1 --",
		"x' UNION SELECT 'secret",
		"http://127.0.0.1:1/keys", a.KeySet(), "|/bin/true", "key\x00", "\u0000", 0, 1, -1, true, []string{"a"},
		[]string{a.keys[0].ID}, map[string]string{"a": "b"}, strings.Repeat("k", 8<<10), "кид", "*", "%", "key-1'"}
	for _, key := range a.keys {
		stranger := NewKey(a.t, key.Algorithm).foreign()
		for _, kid := range append([]any{key.ID, stranger.ID, strings.ToUpper(key.ID), key.ID + " "}, kids...) {
			a.add(fmt.Sprintf("a stranger's %s with kid %.40v", key.Algorithm, kid),
				a.Mint(Claims{"scope": Scopes}, Claims{"kid": kid}, stranger))
		}
		jwk := json.RawMessage(a.jwk(stranger))
		for name, header := range map[string]Claims{
			"jwk": {"jwk": jwk}, "jku": {"jku": "http://127.0.0.1:1/keys"}, "jku of the issuer": {"jku": a.KeySet()},
			"x5u": {"x5u": "http://127.0.0.1:1/certificate"}, "x5c": {"x5c": []string{"AAAA"}},
			"jwk and no kid": {"jwk": jwk, "kid": nil}, "all": {"jwk": jwk, "jku": a.KeySet(), "x5u": a.KeySet(),
				"x5c": []string{}},
		} {
			for _, kid := range []any{key.ID, stranger.ID} {
				a.add(key.Algorithm+" with its own "+name, a.Mint(Claims{"scope": Scopes}, merge(Claims{"kid": kid}, header),
					stranger))
			}
			a.add(key.Algorithm+" of the issuer with "+name, a.Mint(Claims{"scope": Scopes}, header, key))
		}
	}
}

// signatures that a careless verification takes.
func (a *attacks) signatures() {
	for _, key := range a.keys {
		parts := strings.Split(a.good(key), ".")
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		forged := [][]byte{nil, {0}, make([]byte, len(signature)), bytes.Repeat([]byte{0xff}, len(signature)),
			signature[1:], signature[:len(signature)-1], append([]byte{0}, signature...), append(slices.Clone(signature), 0),
			make([]byte, 2*len(signature)), make([]byte, 64), make([]byte, 96), make([]byte, 132)}
		if public, ok := key.Private.Public().(*ecdsa.PublicKey); ok {
			size := len(signature) / 2
			order := public.Params().N
			r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
			for _, pair := range [][2]*big.Int{{new(big.Int), s}, {r, new(big.Int)}, {order, order}, {order, s}, {r, order},
				{big.NewInt(1), new(big.Int)}, {big.NewInt(1), big.NewInt(1)}, {s, r}, {public.Params().P, public.Params().P},
				{new(big.Int).Sub(order, big.NewInt(1)), big.NewInt(1)}} {
				forged = append(forged, append(pair[0].FillBytes(make([]byte, size)), pair[1].FillBytes(make([]byte, size))...))
			}
			der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
			if err != nil {
				panic(err)
			}
			wide := append(r.FillBytes(make([]byte, size+1)), s.FillBytes(make([]byte, size+1))...)
			forged = append(forged, der, wide)
		}
		for i, f := range forged {
			a.add(fmt.Sprintf("%s: signature %d", key.Algorithm, i),
				parts[0]+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(f))
		}
		other := strings.Split(a.Mint(Claims{"sub": "bob", "scope": ""}, nil, key), ".")
		a.add("another token's signature", parts[0]+"."+parts[1]+"."+other[2])
		a.add("another token's payload", other[0]+"."+parts[1]+"."+other[2])
	}
}

// headers that change what a token means, signed by the issuer.
func (a *attacks) headers() {
	for _, key := range a.keys {
		for name, header := range map[string]Claims{
			"crit of nothing": {"crit": []string{}}, "crit": {"crit": []string{"exp"}},
			"crit of b64":          {"crit": []string{"b64"}, "b64": false},
			"crit of a wrong form": {"crit": "exp"}, "b64": {"b64": false}, "nested": {"cty": "JWT"}, "zip": {"zip": "DEF"},
			"enc": {"enc": "A256GCM"}, "a JWE's typ": {"typ": "JWE"}, "an ID token's typ": {"typ": "id+jwt"},
			"a logout token's typ": {"typ": "logout+jwt"}, "a typ that is no text": {"typ": 1}, "an empty typ": {"typ": ""},
		} {
			a.add(name, a.Mint(Claims{"scope": Scopes}, header, key))
		}
		payload, _ := base64.RawURLEncoding.DecodeString(a.payload())
		for _, header := range []string{
			`{"alg":"none","alg":"` + key.Algorithm + `","kid":"` + key.ID + `"}`,
			`{"alg":"` + key.Algorithm + `","alg":"` + key.Algorithm + `","kid":"` + key.ID + `"}`,
			`{"alg":"` + key.Algorithm + `","kid":"` + key.ID + `","kid":"` + key.ID + `"}`,
			`{"alg":"` + key.Algorithm + `","kid":"` + key.ID + `"} ` + `{}`, `[{"alg":"` + key.Algorithm + `"}]`,
			`"` + key.Algorithm + `"`, `null`, ``, `{"alg":"` + key.Algorithm + `","kid":"` + key.ID + `"`,
			`{"Alg":"` + key.Algorithm + `","kid":"` + key.ID + `"}`, "{\"alg\":\"" + key.Algorithm + "\",\"x\":\"\xff\"}",
			`{"alg":"` + key.Algorithm + `","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
			`{"alg":"` + key.Algorithm + `","x":` + strings.Repeat("[", 5000),
		} {
			if strings.Contains(header, "[[[[]") { // harmless where its depth is allowed
				header = strings.Replace(header, "}", `,"crit":["x"]}`, 1)
			}
			a.add(fmt.Sprintf("header %.60q", header), a.sign(key, header, string(payload)))
		}
	}
}

// claims that must not be taken, signed by the issuer.
func (a *attacks) claims() {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	wrong := map[string][]any{
		"iss": {nil, "", a.URL + "/", a.URL + "x", a.URL[1:], a.URL[:len(a.URL)-1], strings.ToUpper(a.URL), " " + a.URL,
			"https://accounts.example", []string{a.URL}, 1, true, map[string]string{"a": a.URL}, a.URL + "\x00",
			a.URL + "#", a.URL + "?"},
		"aud": {nil, "", "Altyn", "ALTYN", "altyn ", "altyn\x00", "alty", "altynx", "account", "*", []string{},
			[]string{""},
			[]string{"Altyn"}, []string{"x", "y"}, []any{Audience, 1}, []any{Audience, nil}, []any{[]string{Audience}}, 1,
			true,
			map[string]bool{Audience: true}, Audience + "," + Audience, []string{Audience + "," + "x"}},
		"exp": {nil, at(-time.Second), at(-time.Hour), 0, -1, 1, at(-24 * 365 * time.Hour), fmt.Sprint(at(time.Hour)),
			"never",
			1e300, -1e300, 9007199254740993.0e6, int64(253402300800), int64(9223372036854775807), true, []int64{at(time.Hour)},
			map[string]int64{"exp": at(time.Hour)}, json.RawMessage("1e999"), json.RawMessage("null"), at(time.Hour) * 1000,
			float64(at(-time.Minute)) + .5},
		"nbf": {at(20 * time.Minute), at(time.Hour), at(24 * 365 * time.Hour), fmt.Sprint(at(-time.Hour)), -1, 1e300, true,
			[]int64{0}, "", json.RawMessage("null"), at(-time.Hour) * 1000},
		"iat": {at(20 * time.Minute), at(time.Hour), fmt.Sprint(at(-time.Hour)), -1, 1e300, true, "",
			json.RawMessage("null")},
		"sub": {nil, "", 1, true, []string{"alice"}, strings.Repeat("x", 201), "a\x00b", map[string]string{"a": "b"},
			json.RawMessage("null"), json.RawMessage(`"\ud800"`)},
		"tenant": {nil, "", 1, true, []string{"default"}, "a b", "a/b", "a.b", "..", "default\x00", "дом",
			strings.Repeat("x", 65),
			"a\n", json.RawMessage("null"), "default,shop"},
		"scope":     {1, true, map[string]string{}, []any{"operator", 1}, []any{nil}, json.RawMessage("null"), 1.5},
		"typ":       {"ID", "Refresh", "Logout", 1, "", json.RawMessage("null")},
		"token_use": {"id", "", 1}, "nonce": {"n", 1, ""}, "at_hash": {"x"}, "c_hash": {"x"}, "s_hash": {"x"},
		"events": {map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}},
	}
	for _, key := range a.keys {
		for name, values := range wrong {
			for _, value := range values {
				a.add(fmt.Sprintf("%s %.60v", name, value), a.Mint(Claims{"scope": Scopes, name: value}, nil, key))
			}
		}
		a.add("without nbf and iat", a.Mint(Claims{"scope": Scopes, "nbf": nil, "iat": nil}, nil, key))
		a.payloads(key)
	}
}

// payloads are those that no encoder writes.
func (a *attacks) payloads(key Key) {
	header := `{"alg":"` + key.Algorithm + `","kid":"` + key.ID + `"}`
	good, _ := base64.RawURLEncoding.DecodeString(a.payload())
	inner := strings.TrimSuffix(string(good), "}")
	for _, payload := range []string{
		inner + `,"sub":"bob"}`, inner + `,"tenant":"shop"}`, inner + `,"exp":9999999999}`, inner + `,"aud":"altyn"}`,
		inner + `,"iss":"` + a.URL + `"}`, inner + `,"x":1,"x":2}`, inner + `,"s\u0075b":"bob"}`,
		inner, inner + "}}", inner + "}{}", inner + "} x", "[" + string(good) + "]", `"` + a.good(key) + `"`,
		a.good(key), "null",
		"", "{}", "true", "1", "\xef\xbb\xbf" + string(good), strings.Replace(string(good), "alice", "al\xffice", 1),
		strings.Replace(string(good), "alice", "al\xc0\x80ice", 1), strings.Replace(string(good), "alice",
			"al\xed\xa0\x80ice", 1),
		strings.Replace(string(good), `"sub"`, `"Sub"`, 1), strings.Replace(string(good), `"tenant"`, `"TENANT"`, 1),
		strings.Replace(string(good), `"exp"`, `"Exp"`, 1), strings.Replace(string(good), `"aud"`, `"AUD"`, 1),
		strings.Replace(string(good), `"exp":`, `"exp":1e999,"x":`, 1), strings.Replace(string(good), `"exp":`,
			`"exp":NaN,"x":`, 1),
		strings.Replace(string(good), `"exp":`, `"exp":0x7fffffff,"x":`, 1), strings.Replace(string(good), `"exp":`,
			`"exp":+`, 1),
		strings.ReplaceAll(string(good), `"`, `'`), inner + `,"x":` + strings.Repeat("[", 5000),
		inner + `,"x":"` + strings.Repeat("x", 48<<10) + `"}`,
		inner + `,"x":` + strings.Repeat(`{"x":`, 11000) + "1" + strings.Repeat("}", 11001),
	} {
		a.add(fmt.Sprintf("payload …%.30q", payload[max(0, len(payload)-30):]), a.sign(key, header, payload))
	}
}

// shapes of the header and of the token.
func (a *attacks) shapes() {
	for _, key := range a.keys {
		good := a.good(key)
		parts := strings.Split(good, ".")
		values := [][]string{{}, {""}, {good}, {"Bearer"}, {"Bearer "}, {"Basic " + good}, {"JWT " + good},
			{"Token " + good},
			{"Bearer:" + good}, {"Bearer=" + good}, {"BearerX " + good}, {"Bearer " + good, "Bearer " + good},
			{"Bearer " + good, "Bearer x"}, {"Bearer x", "Bearer " + good}, {"Basic eDp5", "Bearer " + good},
			{"Bearer " + good + ",Bearer " + good}, {"Bearer " + good + ", Bearer " + good}, {"Bearer " + good + " " + good},
			{"Bearer Bearer " + good}, {"Bearer \"" + good + "\""}, {"DPoP " + good}, {"Bearer " + good + ";"}}
		for _, v := range values {
			a.list = append(a.list, Attack{fmt.Sprintf("%d headers, %.20q", len(v), strings.Join(v, " ")), v})
		}
		for _, token := range []string{
			good + ".", good + "." + parts[2], "." + good, parts[0] + "." + parts[1], parts[0] + "." + parts[1] + ".",
			parts[0],
			"..", "...", ".", "a.b.c", "e30.e30.", "e30.e30.e30", good + "=", parts[0] + "=." + parts[1] + "." + parts[2],
			parts[0] + "." + parts[1] + "==." + parts[2], good + "\n", strings.Replace(good, ".", ".\n", 1), good + "%00",
			good + "\x00",
			good + "A", good + "AAAA", good[:len(good)-1], strings.Replace(good, ".", "%2E", 1), strings.Replace(good, ".",
				"\u3002", 1),
			strings.ToUpper(good), strings.ToLower(good), parts[1] + "." + parts[0] + "." + parts[2],
			parts[2] + "." + parts[1] + "." + parts[0],
			parts[0] + "." + parts[1] + "." + parts[2] + ".x.y", strings.Repeat("A", 64<<10), strings.Repeat(".", 20<<10),
			good + strings.Repeat("A", 64<<10), "\xff\xfe" + good, encode(good), a.sign(key,
				`{"alg":"`+key.Algorithm+`","cty":"JWT"}`, good),
			encode(`{"alg":"dir","enc":"A256GCM"}`) + "..AAAA." + encode(good) + ".AAAA",
			encode(`{"alg":"RSA-OAEP","enc":"A256GCM","cty":"JWT"}`) + ".AAAA.AAAA." + encode(good) + ".AAAA",
			`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			base64.StdEncoding.EncodeToString([]byte(good)), alphabet(parts[0], parts[1], parts[2]),
		} {
			a.add(fmt.Sprintf("shape %.20q, %d bytes", token, len(token)), token)
		}
	}
}

// alphabet writes a token in base64's other alphabet, and with a character that no alphabet has where that is the same.
func alphabet(parts ...string) string {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.Join(parts, "."))
	if text == strings.Join(parts, ".") {
		text += "/"
	}
	return text
}

// change changes a valid token somewhere.
func (a *attacks) change(good string) {
	token := []byte(good)
	i := a.random.IntN(len(token))
	name := ""
	switch a.random.IntN(6) {
	case 0, 1, 2:
		name = "a bit flipped"
		token[i] ^= 1 << a.random.IntN(8)
	case 3:
		name = "another character"
		const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
		token[i] = characters[a.random.IntN(len(characters))]
	case 4:
		name = "characters left out"
		token = slices.Delete(token, i, min(len(token), i+1+a.random.IntN(4)))
	default:
		name = "characters twice"
		token = slices.Insert(token, i, token[i:min(len(token), i+1+a.random.IntN(4))]...)
	}
	if string(token) != good {
		a.add(fmt.Sprintf("%s at %d", name, i), string(token))
	}
}

// foreignRSA makes a key that no issuer of this process has.
var foreignRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
