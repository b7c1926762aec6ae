#include "broker/wait/closing.h"

#include <memory>
#include <utility>

namespace mapcap::broker {

void Closing::close(Fd fd) {
  if (!fd.valid()) return;
  // std::function wants what can be copied.
  auto shared = std::make_shared<Fd>(std::move(fd));
  run([shared] { shared->reset(); });
}

void Closing::run(std::function<void()> work) {
  const Meter::Account account = loop_.meter().account();
  worker_.submit([this, account, work = std::move(work)] {
    const Meter::Time before = loop_.time().worked();
    work();
    const Meter::Time cost = loop_.time().worked() - before;
    if (account) loop_.post([this, account, cost] { loop_.meter().charge(*account, cost); });
  });
}

}  // namespace mapcap::broker
