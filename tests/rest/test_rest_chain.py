"""`/api/crypto/blockchain/…`: chains by their names, and the sources that answer for them."""

from pathlib import Path

from tests.sources import sourced


async def test_a_chain_that_only_a_key_reads_names_the_setting(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        status, refused = await every.get("/api/crypto/blockchain/gas?chain=polygon")
        assert (status, refused["error"]["code"]) == (503, "unavailable")
        assert "ETHERSCAN_API_KEY" in refused["error"]["message"]
        status, refused = await every.get("/api/crypto/blockchain/stats?chain=bsc")
        assert status == 503
        assert "ETHERSCAN_API_KEY" in refused["error"]["message"]
        status, refused = await every.get("/api/crypto/blockchain/gas?chain=dogecoin")
        assert (status, refused["error"]["code"]) == (404, "unknown_chain")
        assert "ethereum" in refused["error"]["message"]


async def test_a_chain_can_be_named_by_name_number_or_coin(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        bodies = [await every.data(f"/api/crypto/blockchain/gas?chain={name}") for name in ("Ethereum", "1", "eth", "")]
        assert {body["data"]["chain"] for body in bodies} == {"ethereum"}


async def test_fees_fail_over_in_one_attempt_and_are_not_rounded(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        path = "/api/crypto/blockchain/gas?max_age=0"
        await every.fakes.node.kill()
        body = await every.data(path)
        assert body["source"] == "blockscout"
        assert body["attempts"] == [
            {"provider": "ethereum_rpc", "outcome": "unavailable"},
            {"provider": "blockscout", "outcome": "ok"},
        ]
        assert body["data"]["base_fee"] is None
        await every.fakes.node.revive()
        body = await every.data(path)
        assert body["source"] == "ethereum_rpc"
        assert body["data"]["base_fee"] != round(body["data"]["base_fee"], 2)
