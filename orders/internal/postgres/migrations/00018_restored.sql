-- +goose Up

-- After a restoration of payments an order may take any step, with the reason restored.
ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ADD CONSTRAINT order_history_transition CHECK (reason = 'restored' OR position(' ' || from_status || '>' || to_status || ' ' IN
        ' pending>pending pending>authorized pending>paid pending>failed pending>cancelling'
        ' authorized>paid authorized>failed authorized>cancelling'
        ' paid>paid paid>cancelling'
        ' cancelling>cancelling cancelling>cancelled cancelling>failed ') > 0) NOT VALID;

-- +goose Down
ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ADD CONSTRAINT order_history_transition CHECK (position(' ' || from_status || '>' || to_status || ' ' IN
        ' pending>pending pending>authorized pending>paid pending>failed pending>cancelling'
        ' authorized>paid authorized>failed authorized>cancelling'
        ' paid>paid paid>cancelling'
        ' cancelling>cancelling cancelling>cancelled cancelling>failed ') > 0) NOT VALID;
