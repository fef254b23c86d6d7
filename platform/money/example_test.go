package money_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/altyn-pay/altyn/platform/money"
)

func ExampleCurrency_Parse() {
	currencies, err := money.LoadCurrencies("") // those that are shipped alone
	if err != nil {
		fmt.Println(err)
		return
	}
	rubles, _ := currencies.Lookup("RUB")
	for _, text := range []string{"2500.00", "2500", "0.1", "0.001", "2,500.00", "-1", "0"} {
		minor, err := rubles.Parse(text)
		if err != nil {
			fmt.Printf("%s %v\n", text, err)
			continue
		}
		fmt.Printf("%s is %d kopecks\n", text, minor)
	}
	// Output:
	// 2500.00 is 250000 kopecks
	// 2500 is 250000 kopecks
	// 0.1 is 10 kopecks
	// 0.001 has more decimal digits than its currency: at most 2
	// 2,500.00 must be a decimal number such as "2500.00": digits, with at most one point between them
	// -1 must be greater than zero
	// 0 must be greater than zero
}

func ExampleCurrency_Format() {
	fmt.Println(money.Currency{Code: "RUB", Digits: 2}.Format(250000))
	fmt.Println(money.Currency{Code: "JPY", Digits: 0}.Format(250000))
	fmt.Println(money.Currency{Code: "USDT", Digits: 6}.Format(-1))
	// Output:
	// 2500.00
	// 250000
	// -0.000001
}

// A client may write an amount as a string or as a number; neither passes through a float.
func ExampleDecimal() {
	for _, body := range []string{`{"amount": "0.10"}`, `{"amount": 0.10}`, `{"amount": 1e-07}`, `{"amount": ""}`} {
		var request struct {
			Amount money.Decimal `json:"amount"`
		}
		if err := json.Unmarshal([]byte(body), &request); err != nil {
			fmt.Println(errors.Is(err, money.ErrSyntax))
			continue
		}
		fmt.Println(request.Amount)
	}
	// Output:
	// 0.10
	// 0.10
	// 0.0000001
	// true
}

// What others call a currency may be unknown here. Its amount keeps the digits with which it was written.
func ExampleParseForeign() {
	amount, err := money.ParseForeign("XYZ", "1.250")
	fmt.Println(amount.Name(), amount.Minor, err)
	// Output: XYZ,3 1250 <nil>
}
