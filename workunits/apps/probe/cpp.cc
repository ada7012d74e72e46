// C++ does with its standard library what could differ between machines and engines.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Shape {
	virtual ~Shape() = default;
	virtual double area() const = 0;
};
struct Square final : Shape {
	double side;
	explicit Square(double s) : side(s) {}
	double area() const override { return side * side; }
};
struct Circle final : Shape {
	double radius;
	explicit Circle(double r) : radius(r) {}
	double area() const override { return 3.141592653589793 * radius * radius; }
};

// Made before main, and ended after it.
struct Life {
	Life() { std::cout << "made\n"; }
	~Life() { std::cout << "ended\n"; }
} life;

} // namespace

int main(int argc, char **argv) {
	std::vector<std::string> words(argv, argv + argc);
	std::unordered_map<std::string, int> counts;
	for (const auto &w : words)
		counts[w]++;
	std::map<std::string, int> sorted(counts.begin(), counts.end());
	for (const auto &[word, n] : sorted)
		std::cout << std::quoted(word) << ' ' << n << '\n';
	for (const auto &[word, n] : counts) // in the order of the hashes
		std::cout << word << ' ' << n << '\n';

	std::mt19937_64 chance(42);
	std::normal_distribution<double> normal(0, 1);
	std::vector<double> values(1000);
	std::generate(values.begin(), values.end(), [&] { return normal(chance); });
	std::sort(values.begin(), values.end(), std::greater<>());
	std::cout << std::setprecision(17) << values.front() << ' ' << values.back() << ' '
		  << std::accumulate(values.begin(), values.end(), 0.0) << ' ' << std::hexfloat << values[500] << std::defaultfloat << '\n';

	std::vector<std::unique_ptr<Shape>> shapes;
	shapes.push_back(std::make_unique<Square>(1.5));
	shapes.push_back(std::make_unique<Circle>(0.1));
	for (const auto &s : shapes)
		std::cout << s->area() << '\n';

	std::ofstream("/out/table.txt") << std::fixed << std::setprecision(3) << 0.0005 << '\n' << 1e9 << '\n';
	std::ifstream back("/out/table.txt");
	std::stringstream text;
	text << back.rdbuf();
	std::cout << text.str() << std::ifstream("/none").good() << '\n';
	return static_cast<int>(sorted.size());
}
