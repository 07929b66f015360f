module shop.example/inventory

go 1.19
